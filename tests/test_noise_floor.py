import os

import numpy as np
import pytest
from scipy.special import expit, softmax

from mlutils import corpora, metrics, noise_floor
from mlutils.training import baselines

SCORES = {"nll": metrics.nll, "l1": metrics.l1, "f1": metrics.example_f1}


def beta(rng, documents):
    return rng.beta([0.3, 0.15, 1.0], [2.0, 2.5, 4.0], (documents, 3))


def divided(rng, documents):
    """Most documents surely lack a label, a few divide the annotators: what one beta cannot describe."""
    present = rng.random((documents, 3)) < 0.15
    return expit(np.where(present, rng.normal(0.8, 1, present.shape), rng.normal(-4, 0.7, present.shape)))


def ask(rng, truth):
    annotators = rng.integers(3, 6, len(truth))
    return rng.binomial(annotators[:, None], truth) / annotators[:, None], annotators


def interval(scores):
    """Returns four standard errors each way: an interval that a correct floor hardly ever leaves."""
    error = scores.std() / len(scores) ** 0.5
    return scores.mean() - 4 * error, scores.mean() + 4 * error


@pytest.mark.parametrize("draw", [beta, divided])
@pytest.mark.parametrize("chosen", [False, True], ids=["natural", "chosen"])
def test_floor_agrees_with_the_known_truth(draw, chosen):
    rng = np.random.default_rng(7)
    train_votes, train_annotators = ask(rng, draw(rng, 4_000))
    truth = draw(rng, 4_000)
    votes, annotators = ask(rng, truth)
    rows = np.arange(400)
    if chosen:  # as many documents with disagreement as without
        disagree = ((votes > 0) & (votes < 1)).any(axis=1)
        rows = np.concatenate([np.flatnonzero(disagree)[:200], np.flatnonzero(~disagree)[:200]])
    votes, annotators, truth = votes[rows], annotators[rows], truth[rows]
    scores = SCORES | {"cse": lambda q, h: metrics.corrected_squared_error(q, h, annotators)}
    prior = noise_floor.fit_prior(train_votes, train_annotators)
    floor = noise_floor.simulate(votes, annotators, prior, scores, draws=60)
    for name, score in scores.items():
        low, high = interval(score(truth, votes))
        assert low < floor[name].mean() < high, name


def test_one_beta_would_miss_the_divided_truth():
    """Why a mixture: the beta with the true mean and variance puts the floor far too low."""
    rng = np.random.default_rng(7)
    votes, annotators = ask(rng, divided(rng, 6_000))
    truth = divided(rng, 6_000)
    test_votes, test_annotators = ask(rng, truth)
    prior = noise_floor.fit_prior(votes, annotators)
    mean, variance = truth.mean(axis=0), truth.var(axis=0)
    alphas = np.stack([mean, 1 - mean], axis=1) * (mean * (1 - mean) / variance - 1)[:, None]
    single = noise_floor.Prior(np.full((3, 2), 0.5), np.stack([alphas, alphas], axis=1), False)
    known = metrics.l1(truth, test_votes).mean()
    scores = {"l1": metrics.l1}
    error = [
        noise_floor.simulate(test_votes, test_annotators, p, scores, draws=40)["l1"].mean() / known - 1
        for p in (prior, single)
    ]
    assert abs(error[0]) < 0.06 < -error[1]


def test_posterior_by_hand():
    """Beta(1, 1) and two of three votes: h ~ Beta(3, 2), E|h - 2/3| by quadrature."""
    prior = noise_floor.Prior(np.array([[0.5, 0.5]]), np.ones((1, 2, 2)), False)
    votes = np.full((400, 1), 2 / 3)
    floor = noise_floor.simulate(votes, np.full(400, 3), prior, {"l1": metrics.l1}, draws=100)
    h = (np.arange(100_000) + 0.5) / 100_000
    density = 12 * h**2 * (1 - h)
    assert floor["l1"].mean() == pytest.approx((density * abs(h - 2 / 3)).mean(), abs=0.004)


def test_components_are_weighted_by_the_votes():
    """A surely-no and a surely-yes component: three of three votes leave only the second."""
    alphas = np.array([[[1.0, 999.0], [999.0, 1.0]]])
    prior = noise_floor.Prior(np.array([[0.99, 0.01]]), alphas, False)
    mean = {"mean": lambda q, h: q.sum(axis=1)}
    votes = np.array([[0.0], [1.0]])
    shown = noise_floor.simulate(votes, np.array([3, 3]), prior, mean, draws=50)["mean"]
    assert shown == pytest.approx([0.001, 0.999], abs=0.002)


def test_single_label_floor():
    rng = np.random.default_rng(2)

    def draw(documents):
        clear = np.where(rng.random(documents) < 0.5, 3.5, 1.0)[:, None]
        return softmax(rng.normal(0, 1, (documents, 3)) + clear * np.eye(3)[rng.integers(0, 3, documents)], axis=1)

    train, truth = draw(4_000), draw(600)
    train_votes, votes = rng.multinomial(3, train) / 3, rng.multinomial(3, truth) / 3
    prior = noise_floor.fit_prior(train_votes, np.full(4_000, 3), single_label=True)
    scores = {"nll": metrics.nll_single, "l1": metrics.l1, "accuracy": metrics.accuracy_single}
    floor = noise_floor.simulate(votes, np.full(600, 3), prior, scores, draws=60)
    for name, score in scores.items():
        low, high = interval(score(truth, votes))
        assert low < floor[name].mean() < high, name


def test_labels_never_and_always_chosen():
    votes = np.tile([0.0, 1.0], (300, 1))
    annotators = np.full(300, 3)
    prior = noise_floor.fit_prior(votes, annotators)
    floor = noise_floor.simulate(votes, annotators, prior, SCORES, draws=20)
    assert floor["l1"].mean() < 0.02 and floor["nll"].mean() < 0.02 and (floor["f1"] > 0.95).all()


def test_same_seed_same_floor():
    rng = np.random.default_rng(0)
    votes, annotators = ask(rng, beta(rng, 300))
    prior = noise_floor.fit_prior(votes, annotators)
    first, again, other = (
        noise_floor.simulate(votes, annotators, prior, {"l1": metrics.l1}, draws=5, seed=seed)["l1"]
        for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_what_is_refused():
    votes, annotators = np.array([[1 / 3, 0.0], [2 / 3, 1.0]]), np.array([3, 3])
    prior = noise_floor.fit_prior(votes, annotators)
    with pytest.raises(ValueError, match="whole votes"):
        noise_floor.fit_prior(votes + 0.1, annotators)
    with pytest.raises(ValueError, match="whole votes"):
        noise_floor.fit_prior(np.full((1, 2), np.nan), np.array([0]))
    with pytest.raises(ValueError, match="whole votes"):
        noise_floor.fit_prior(votes, annotators, single_label=True)  # rows do not sum to one
    with pytest.raises(ValueError, match="two annotators"):
        noise_floor.fit_prior(np.array([[1.0, 0.0]]), np.array([1]))
    with pytest.raises(ValueError, match="fitted on 2 labels"):
        noise_floor.simulate(votes[:, :1], annotators, prior, SCORES)
    with pytest.raises(ValueError, match="shape"):
        noise_floor.simulate(votes, annotators[:1], prior, SCORES)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_floor_of_vignettes_agrees_with_their_truth(split):
    train, test = corpora.load("vignettes", split="train"), corpora.load("vignettes", split=split)
    scores = {
        "nll": metrics.nll,
        "l1": metrics.l1,
        "cse": lambda q, h: metrics.corrected_squared_error(q, h, test.annotators),
    }
    prior = noise_floor.fit_prior(train.votes, train.annotators)
    floor = noise_floor.simulate(test.votes, test.annotators, prior, scores)
    for name, score in scores.items():
        _, low, high = metrics.bootstrap(score(test.truth, test.votes))
        assert low < floor[name].mean() < high, name


@pytest.mark.skipif(not os.environ.get("ONE_LABEL_MIRROR"), reason="no mirror")
def test_mfrc_floor_lies_below_the_base_rate():
    train, paper = corpora.load("mfrc", split="train"), corpora.load("mfrc", split="test", sample="paper")
    train, paper = train.take(train.has_votes), paper.take(paper.has_votes)
    prior = noise_floor.fit_prior(train.votes, train.annotators)
    floor = noise_floor.simulate(paper.votes, paper.annotators, prior, SCORES)
    base = baselines.base_rate(train.votes, len(paper))
    assert 1.2 < floor["nll"].mean() < metrics.nll(base, paper.votes).mean()
    assert 0.65 < floor["f1"].mean() < 0.8
