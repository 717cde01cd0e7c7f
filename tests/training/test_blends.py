import dataclasses

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, softmax

from mlutils import metrics
from mlutils.training import blends
from mlutils.training.encoder import EncoderError
from tests.training.test_encoder import corpus, recipe, tiny  # noqa: F401


def test_blend_recovers_weights_and_offsets():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4000, 2))
    truth = expit(0.8 * first + 0.4 * second - 0.5 + np.array([0.3, -0.3]))
    views = {"a": expit(first), "b": expit(second)}
    blend = blends.fit(views, truth, l1=0.0, ridge=0.0)
    assert blend.weights == pytest.approx([0.8, 0.4], abs=1e-3)
    assert blends.apply(blend, views) == pytest.approx(truth, abs=1e-3)
    with pytest.raises(ValueError, match="in this order"):
        blends.apply(blend, {"b": views["b"], "a": views["a"]})


def test_a_view_that_misleads_weighs_nothing():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 2))
    blend = blends.fit({"good": expit(logits), "bad": expit(-0.5 * logits + rng.normal(size=(2000, 2)))}, expit(logits))
    assert blend.weights == pytest.approx([1, 0], abs=0.02)


def test_single_label_blend():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 3))
    truth = softmax(1.5 * np.log(softmax(logits, axis=1)) + [0.5, 0.0, -0.5], axis=1)
    views = {"a": softmax(logits, axis=1)}
    blend = blends.fit(views, truth, l1=1.0, ridge=0.0, single_label=True)
    assert blends.apply(blend, views) == pytest.approx(truth, abs=5e-3)


@pytest.mark.parametrize("single_label", [False, True])
def test_gradient_is_that_of_the_loss(single_label, monkeypatch):
    seen = {}

    def spy(loss, start, jac, method, bounds):
        x = np.random.default_rng(1).normal(size=len(start))
        seen["wanted"], seen["found"] = approx_fprime(x, lambda at: loss(at)[0], 1e-6), loss(x)[1]
        return type("Result", (), {"x": start})

    monkeypatch.setattr(blends, "minimize", spy)
    rng = np.random.default_rng(0)
    views, votes = {"a": rng.dirichlet(np.ones(3), 30), "b": rng.dirichlet(np.ones(3), 30)}, rng.dirichlet([1] * 3, 30)
    blends.fit(views, votes, rng.random(30), 1.3, 2.0, single_label)
    assert seen["found"] == pytest.approx(seen["wanted"], abs=1e-3)


def test_l1_and_weights_change_what_is_fitted():
    votes = np.array([[0.0]] * 70 + [[1.0]] * 30)
    views = {"constant": np.full((100, 1), 0.3)}
    by_mean = blends.apply(blends.fit(views, votes, l1=0.0), views)[0, 0]
    assert by_mean == pytest.approx(0.3, abs=1e-3)
    assert blends.apply(blends.fit(views, votes, l1=2.0), views)[0, 0] < 0.2  # the median is 0
    weights = np.where(votes[:, 0] == 1, 7.0, 1.0)
    assert blends.apply(blends.fit(views, votes, weights, l1=0.0), views)[0, 0] == pytest.approx(0.75, abs=1e-3)


def test_bad_views_are_refused():
    votes = np.zeros((4, 2))
    with pytest.raises(ValueError, match="no view"):
        blends.fit({}, votes)
    with pytest.raises(ValueError, match="view a must be probabilities"):
        blends.fit({"a": np.full((4, 2), np.nan)}, votes)
    with pytest.raises(ValueError, match="votes are missing"):
        blends.fit({"a": np.full((4, 2), 0.5)}, np.full((4, 2), np.nan))


def test_thin_keeps_all_but_easy_documents_and_their_weight():
    whole = corpus(200, 0, "a")
    thinned, weights = blends.thin(whole, 0.25)
    easy = (whole.votes == 0).all(axis=1)
    kept = (thinned.votes == 0).all(axis=1)
    assert kept.sum() == round(0.25 * easy.sum()) and (~kept).sum() == (~easy).sum()
    assert weights.sum() == pytest.approx(200) and (weights[~kept] == 1).all()


def test_the_weight_of_l1_is_chosen_on_held_out_documents():
    """Votes are all or nothing, and the view knows only how often: L1 wants the median, at a small price in NLL."""
    rng = np.random.default_rng(0)
    votes = (rng.random((300, 1)) < 0.1).astype(float)
    blend = blends.fit_best({"constant": np.full((300, 1), 0.1)}, votes)
    assert blend.l1 > 0
    assert blends.fit_best({"constant": np.full((300, 1), 0.1)}, votes, weighings=(0.5,)).l1 == 0.5


def test_views_are_trained_without_held_out_documents_and_blend_beats_the_base_rate(tiny):  # noqa: F811
    train, aside, natural = corpus(240, 0, "a"), corpus(80, 2, "c"), corpus(50, 1, "b")
    rng = np.random.default_rng(0)
    noisy = [np.where(each.votes > 0, rng.choice([2 / 3, 1], each.votes.shape), 0) for each in (train, aside)]
    train, aside = (dataclasses.replace(each, votes=votes) for each, votes in zip((train, aside), noisy, strict=True))
    recipes = {"encoder_soft": recipe(tiny, epochs=3), "bert_demux": recipe(tiny, epochs=3, targets="aggregate")}
    held, tested = blends.train_views(train, [aside, natural], recipes, aside)
    assert list(held) == list(tested) == ["encoder_soft", "bert_demux", "frozen_encoder", "tfidf"]
    chosen = ("encoder_soft", "tfidf")
    blend = blends.fit_best({name: held[name] for name in chosen}, aside.votes)
    found = blends.apply(blend, {name: tested[name] for name in chosen})
    rates = np.tile(noisy[0].mean(axis=0), (50, 1))
    assert metrics.l1(found, natural.votes).mean() < metrics.l1(rates, natural.votes).mean() - 0.3
    with pytest.raises(EncoderError, match="by id"):
        blends.train_views(train, [aside, natural], recipes, train.take([0]))
