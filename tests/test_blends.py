import dataclasses

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, softmax
from test_encoder import corpus, recipe, tiny  # noqa: F401

from mlutils import metrics
from mlutils.training import blends
from mlutils.training.encoder import EncoderError


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

    def spy(loss, start, jac, method):
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


def test_trained_blend_beats_the_base_rate_and_follows_the_design(tiny):  # noqa: F811
    train, natural = corpus(240, 0, "a"), corpus(50, 1, "b")
    rng = np.random.default_rng(0)
    noisy = np.where(train.votes > 0, rng.choice([2 / 3, 1], train.votes.shape), 0)
    train = dataclasses.replace(train, votes=noisy)
    recipes = [recipe(tiny, epochs=3, held_out=0.2), recipe(tiny, epochs=3, held_out=0.2, seed=1)]
    found, fitted, _ = blends.train(train, [natural, natural], ["natural", "even"], recipes)
    assert fitted[0].views == ("encoder-0", "encoder-1", "tfidf")
    rates = np.tile(noisy.mean(axis=0), (50, 1))
    assert metrics.l1(found[0], natural.votes).mean() < metrics.l1(rates, natural.votes).mean() - 0.3
    # only the documents' weights differ between the two
    assert fitted[1].offset != fitted[0].offset
    with pytest.raises(EncoderError, match="designs must name"):
        blends.train(train, [natural], ["balanced"], recipes)
    with pytest.raises(EncoderError, match="same held_out"):
        blends.train(train, [natural], ["natural"], [recipe(tiny, held_out=0.0)])
    with pytest.raises(EncoderError, match="targets='votes'"):
        blends.train(train, [natural], ["natural"], [recipe(tiny, targets="aggregate")])
