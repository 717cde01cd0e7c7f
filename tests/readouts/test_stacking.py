"""Both ways to stack against known weights; stacks against scikit-learn, blends by hand."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression

from mlutils import metrics
from mlutils.readouts import calibration, stacking


def draw(documents=120, labels=3, seed=0, weights=(0.6, 0.3, 0.0), offsets=(0.5, -0.5, -1.0), annotators=4):
    """Returns views of which the last says nothing, votes, and the truth that the others add up to."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (documents, labels, len(weights)))
    truth = expit(logits @ np.array(weights) + np.array(offsets))
    views = {name: expit(logits[..., i]) for i, name in enumerate(("list", "unary", "noise"))}
    return views, rng.binomial(annotators, truth) / annotators, truth


def draw_classes(documents=120, labels=3, seed=0, weights=(0.6, 0.3, 0.0)):
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 2, (documents, labels, len(weights))), axis=1)
    truth = softmax(np.log(probabilities) @ np.array(weights), axis=1)
    views = {name: probabilities[..., i] for i, name in enumerate(("list", "unary", "noise"))}
    return views, np.array([rng.multinomial(4, row) for row in truth]) / 4, truth


def test_known_weights_are_found_again():
    views, _, truth = draw()
    stack = stacking.fit_stack(views, truth, ridges=(1e-6,))
    assert stack.weights == pytest.approx([0.6, 0.3, 0.0], abs=1e-4) and stack.views == ("list", "unary", "noise")
    assert stack.offset + stack.offsets == pytest.approx([0.5, -0.5, -1.0], abs=1e-4)
    assert stacking.apply(stack, views) == pytest.approx(truth, abs=1e-4)
    backwards = dict(reversed(views.items()))
    assert (stacking.apply(stack, backwards) == stacking.apply(stack, views)).all()


def test_known_class_weights_are_found_again():
    views, _, truth = draw_classes()
    stack = stacking.fit_stack(views, truth, single_label=True, ridges=(1e-6,))
    assert stack.weights == pytest.approx([0.6, 0.3, 0.0], abs=1e-4) and stack.offset == 0
    assert stacking.apply(stack, views) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_the_fit_is_that_of_scikit_learn(ridge):
    views, votes, _ = draw(seed=2)
    stack = stacking.fit_stack(views, votes, ridges=(ridge,))
    documents, labels = votes.shape
    features = np.stack([logit(p) for p in views.values()], axis=-1)
    spread = features.std(axis=(0, 1))
    rows = np.concatenate([(features / spread).reshape(-1, 3), np.tile(np.eye(labels), (documents, 1))], axis=1)
    model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000)
    weights = np.concatenate([votes.ravel(), 1 - votes.ravel()])
    model.fit(np.tile(rows, (2, 1)), np.repeat([1, 0], documents * labels), sample_weight=weights)
    assert stack.weights * spread == pytest.approx(model.coef_[0, :3], abs=1e-4)
    assert stack.offsets == pytest.approx(model.coef_[0, 3:], abs=1e-4)
    assert stack.offset == pytest.approx(model.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("single_label", [False, True])
def test_a_document_is_never_stacked_on_its_own_votes(single_label):
    views, votes, _ = (draw_classes if single_label else draw)(documents=50)
    options = dict(single_label=single_label, ridges=(1.0, 30.0))
    before = stacking.cross_fit(views, votes, **options)
    for row in (0, 27):
        changed = votes.copy()
        changed[row] = np.eye(3)[(votes[row].argmax() + 1) % 3]
        after = stacking.cross_fit(views, changed, **options)
        assert (after[row] == before[row]).all()
        assert (after != before).any(axis=1).sum() >= 35


def test_a_stack_is_better_than_each_of_its_views_calibrated():
    views, votes, truth = draw(documents=150, seed=4, weights=(0.5, 0.5, 0.0))
    score = lambda predicted: metrics.nll(predicted, truth).mean()  # noqa: E731
    stacked = score(stacking.cross_fit(views, votes))
    alone = [score(calibration.cross_fit(p, votes, offsets=True)) for p in views.values()]
    constant = score(np.tile(votes.mean(0), (len(votes), 1)))
    assert stacked < min(alone) - 0.05 and min(alone) < constant
    assert stacked < score(truth) + 0.1


def test_a_view_of_noise_on_few_documents_is_held_down():
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 4, (40, 3)) / 3
    noise = {f"view {i}": rng.random((40, 3)) for i in range(3)}
    stack = stacking.fit_stack(noise, votes)
    assert stack.strength >= 30 and np.abs(stack.weights).max() < 0.1


def test_documents_without_votes_are_left_out():
    views, votes, _ = draw(seed=1)
    holes = votes.copy()
    holes[:20] = np.nan
    stack = stacking.fit_stack(views, holes)
    other = stacking.fit_stack({name: p[20:] for name, p in views.items()}, votes[20:])
    assert stack.weights == pytest.approx(other.weights)
    assert np.isfinite(stacking.cross_fit(views, holes, ridges=(1.0,))).all()


def test_errors_name_the_view():
    views, votes, _ = draw(documents=30)
    with pytest.raises(ValueError, match="no view to stack"):
        stacking.fit_stack({}, votes)
    failed = {**views, "unary": np.where(np.arange(30)[:, None] == 7, np.nan, views["unary"])}
    with pytest.raises(ValueError, match=r"view unary: .* in 1 documents \(first rows \[7\]\)"):
        stacking.fit_stack(failed, votes)
    with pytest.raises(ValueError, match="no positive"):
        stacking.fit_stack(views, np.zeros_like(votes))
    short = {**views, "noise": views["noise"][:10]}
    for function in (stacking.fit_stack, stacking.cross_fit):
        with pytest.raises(ValueError, match="view noise.* must be alike"):
            function(short, votes)
    stack = stacking.fit_stack(views, votes, ridges=(1.0,))
    with pytest.raises(ValueError, match="fitted on views"):
        stacking.apply(stack, {"list": views["list"]})
    with pytest.raises(ValueError, match=r"view list has shape \(30, 2\), not \(30, 3\)"):
        stacking.apply(stack, {name: p[:, :2] for name, p in views.items()})
    with pytest.raises(ValueError, match="must sum to one"):
        stacking.fit_stack(views, votes, single_label=True)
    with pytest.raises(ValueError, match="cannot be cut"):
        stacking.cross_fit({name: p[:3] for name, p in views.items()}, votes[:3])


# -- blends -----------------------------------------------------------------------------------------------------------
def test_blend_recovers_weights_and_offsets():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4000, 2))
    truth = expit(0.8 * first + 0.4 * second - 0.5 + np.array([0.3, -0.3]))
    views = {"a": expit(first), "b": expit(second)}
    blend = stacking.fit_blend(views, truth, l1_weights=(0.0,), ridge=0.0)
    assert blend.weights == pytest.approx([0.8, 0.4], abs=1e-3)
    assert stacking.apply(blend, views) == pytest.approx(truth, abs=1e-3)
    assert (stacking.apply(blend, {"b": views["b"], "a": views["a"]}) == stacking.apply(blend, views)).all()


def test_a_view_that_misleads_weighs_nothing():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 2))
    blend = stacking.fit_blend(
        {"good": expit(logits), "bad": expit(-0.5 * logits + rng.normal(size=(2000, 2)))},
        expit(logits),
        l1_weights=(1.0,),
    )
    assert blend.weights == pytest.approx([1, 0], abs=0.02)


def test_single_label_blend():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 3))
    truth = softmax(1.5 * np.log(softmax(logits, axis=1)) + [0.5, 0.0, -0.5], axis=1)
    views = {"a": softmax(logits, axis=1)}
    blend = stacking.fit_blend(views, truth, l1_weights=(1.0,), ridge=0.0, single_label=True)
    assert stacking.apply(blend, views) == pytest.approx(truth, abs=5e-3)


@pytest.mark.parametrize("single_label", [False, True])
def test_the_gradient_of_a_blend_is_that_of_the_loss(single_label, monkeypatch):
    seen = {}

    def spy(loss, start, jac, method, bounds):
        x = np.random.default_rng(1).normal(size=len(start))
        seen["wanted"], seen["found"] = approx_fprime(x, lambda at: loss(at)[0], 1e-6), loss(x)[1]
        return type("Result", (), {"x": start})

    monkeypatch.setattr(stacking, "minimize", spy)
    rng = np.random.default_rng(0)
    views, votes = {"a": rng.dirichlet(np.ones(3), 30), "b": rng.dirichlet(np.ones(3), 30)}, rng.dirichlet([1] * 3, 30)
    stacking.fit_blend(views, votes, rng.random(30), single_label, (1.3,), 2.0)
    assert seen["found"] == pytest.approx(seen["wanted"], abs=1e-3)


def test_l1_and_weights_change_what_is_fitted():
    votes = np.array([[0.0]] * 70 + [[1.0]] * 30)
    views = {"constant": np.full((100, 1), 0.3)}
    by_mean = stacking.apply(stacking.fit_blend(views, votes, l1_weights=(0.0,)), views)[0, 0]
    assert by_mean == pytest.approx(0.3, abs=1e-3)
    assert stacking.apply(stacking.fit_blend(views, votes, l1_weights=(2.0,)), views)[0, 0] < 0.2  # the median is 0
    weights = np.where(votes[:, 0] == 1, 7.0, 1.0)
    assert stacking.apply(stacking.fit_blend(views, votes, weights, l1_weights=(0.0,)), views)[0, 0] == pytest.approx(
        0.75, abs=1e-3
    )


def test_bad_views_of_a_blend_are_refused():
    votes = np.zeros((4, 2))
    with pytest.raises(ValueError, match="no view"):
        stacking.fit_blend({}, votes)
    with pytest.raises(ValueError, match="view a: probabilities are NaN"):
        stacking.fit_blend({"a": np.full((4, 2), np.nan)}, votes)
    with pytest.raises(ValueError, match="votes are missing"):
        stacking.fit_blend({"a": np.full((4, 2), 0.5)}, np.full((4, 2), np.nan))


def test_the_weight_of_l1_is_chosen_on_held_out_documents():
    """Votes are all or nothing, and the view knows only how often: L1 wants the median, at a small price in NLL."""
    rng = np.random.default_rng(0)
    votes = (rng.random((300, 1)) < 0.1).astype(float)
    blend = stacking.fit_blend({"constant": np.full((300, 1), 0.1)}, votes)
    assert blend.strength > 0
    assert stacking.fit_blend({"constant": np.full((300, 1), 0.1)}, votes, l1_weights=(0.5,)).strength == 0.5
