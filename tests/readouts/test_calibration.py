"""Calibration against known parameters, slow optimisers and enumeration of all label sets."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from mlutils import metrics
from mlutils.readouts import calibration
from mlutils.readouts.calibration import Calibration


def draw(documents=150, labels=4, seed=0, annotators=3, slope=0.5, offset=-0.7, offsets=0.0):
    """Returns overconfident probabilities and the votes of a few annotators who know better."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (documents, labels))
    truth = expit(slope * logits + offset + offsets)
    return expit(logits), rng.binomial(annotators, truth) / annotators, truth


def draw_classes(documents=150, labels=3, seed=0, annotators=3, slope=0.4, offsets=0.0):
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 3, (documents, labels)), axis=1)
    truth = softmax(slope * np.log(probabilities) + offsets, axis=1)
    return probabilities, np.array([rng.multinomial(annotators, row) for row in truth]) / annotators, truth


def test_known_parameters_are_found_again():
    probabilities, _, truth = draw()
    found = calibration.fit(probabilities, truth)
    assert found.slope == pytest.approx(0.5, abs=1e-5) and found.offset == pytest.approx(-0.7, abs=1e-5)
    assert (found.offsets == 0).all() and found.ridge is None
    assert calibration.apply(found, probabilities) == pytest.approx(truth, abs=1e-5)


def test_a_temperature_is_found_again():
    probabilities, _, truth = draw_classes(slope=1 / 2.5)
    found = calibration.fit(probabilities, truth, single_label=True)
    assert 1 / found.slope == pytest.approx(2.5, abs=1e-4) and found.offset == 0 and (found.offsets == 0).all()
    assert calibration.apply(found, probabilities) == pytest.approx(truth, abs=1e-5)
    shifted, _, truth = draw_classes(documents=3000, offsets=np.array([1.0, -0.5, -0.5]))
    found = calibration.fit(shifted, truth, offsets=True, single_label=True, ridges=(1e-6,))
    assert found.offsets - found.offsets.mean() == pytest.approx([1.0, -0.5, -0.5], abs=1e-3)


@pytest.mark.parametrize("single_label", [False, True])
def test_the_fit_is_that_of_a_slow_optimiser(single_label):
    probabilities, votes, _ = (draw_classes if single_label else draw)(documents=80, seed=3)
    score = metrics.nll_single if single_label else metrics.nll
    labels = votes.shape[1]

    def loss(parameters):
        trial = Calibration(parameters[0], parameters[1] * (not single_label), np.zeros(labels), single_label)
        return score(calibration.apply(trial, probabilities), votes).mean()

    found = calibration.fit(probabilities, votes, single_label=single_label)
    slow = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000})
    fast = score(calibration.apply(found, probabilities), votes).mean()
    assert fast <= slow.fun + 1e-10
    assert found.slope == pytest.approx(slow.x[0], abs=1e-4)
    assert fast < score(probabilities, votes).mean()


def test_offsets_of_labels_are_shrunk_by_the_ridge():
    wanted = np.array([1.5, 0.0, -1.5, 0.0])
    probabilities, votes, _ = draw(documents=60, seed=5, offsets=wanted)
    logits = logit(probabilities)

    def loss(parameters, ridge):
        moved = parameters[0] * logits + parameters[1] + parameters[2:]
        likelihood = (np.logaddexp(0, moved) - votes * moved).sum()
        return likelihood + ridge / 2 * (parameters[2:] ** 2).sum()

    spread = []
    for ridge in (1e-4, 10.0, 1e6):
        found = calibration.fit(probabilities, votes, offsets=True, ridges=(ridge,))
        slow = minimize(loss, np.zeros(6), args=(ridge,), method="BFGS", options={"gtol": 1e-9})
        ours = loss(np.array([found.slope, found.offset, *found.offsets]), ridge)
        assert ours <= slow.fun + 1e-6 * abs(slow.fun)
        spread.append(np.ptp(found.offsets))
    assert spread[0] > 2 > spread[1] > spread[2] and spread[2] < 1e-3
    shared = calibration.fit(probabilities, votes)
    assert found.slope == pytest.approx(shared.slope, abs=1e-3)
    chosen = calibration.fit(probabilities, votes, offsets=True)
    assert chosen.ridge in calibration.RIDGES and chosen.ridge < 100
    same, votes, _ = draw(documents=60, seed=5)
    assert calibration.fit(same, votes, offsets=True).ridge > chosen.ridge


def test_the_slope_does_not_turn_labels_around():
    probabilities, _, truth = draw(slope=-1.0, offset=0.0)
    assert calibration.fit(probabilities, truth).slope == 0


def test_separable_votes_and_probabilities_of_0_and_1_stay_finite():
    gold = np.random.default_rng(0).random((60, 3)) < 0.3
    found = calibration.fit(gold.astype(float), gold.astype(float))
    assert np.isfinite([found.slope, found.offset]).all()
    assert np.abs(calibration.apply(found, gold.astype(float)) - gold).max() < 1e-3


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("offsets", [False, True])
def test_a_document_is_never_calibrated_on_its_own_votes(single_label, offsets):
    probabilities, votes, _ = (draw_classes if single_label else draw)(documents=60)
    options = dict(offsets=offsets, single_label=single_label, ridges=(1.0, 100.0))
    before = calibration.cross_fit(probabilities, votes, **options)
    for row in (0, 31):
        changed = votes.copy()
        changed[row] = np.roll(votes[row], 1) if single_label else 1 - votes[row]
        changed[row] = np.eye(votes.shape[1])[(votes[row].argmax() + 1) % votes.shape[1]]
        after = calibration.cross_fit(probabilities, changed, **options)
        assert (after[row] == before[row]).all()
        assert (after != before).any(axis=1).sum() >= 40
    assert calibration.cross_fit(probabilities, votes, seed=1, **options) != pytest.approx(before, abs=1e-6)


def test_calibration_on_a_hundred_documents_helps_on_others():
    wanted = np.array([0.8, 0.0, -0.8, 0.3])
    gains = []
    for seed in range(5):
        probabilities, votes, _ = draw(documents=500, seed=seed, offsets=wanted)
        plain = metrics.nll(probabilities[100:], votes[100:]).mean()
        shared, own = (
            calibration.apply(calibration.fit(probabilities[:100], votes[:100], offsets=o), probabilities[100:])
            for o in (False, True)
        )
        scores = [metrics.nll(each, votes[100:]).mean() for each in (shared, own)]
        gains.append([plain - scores[0], scores[0] - scores[1]])
    assert np.min(gains, axis=0)[0] > 0.5 and np.mean(gains, axis=0)[1] > 0.02


def test_documents_without_votes_are_left_out_and_counted():
    probabilities, votes, _ = draw()
    holes = votes.copy()
    holes[::3] = np.nan
    found, kept = calibration.fit(probabilities, holes), ~np.isnan(holes[:, 0])
    other = calibration.fit(probabilities[kept], votes[kept])
    assert (found.slope, found.offset) == pytest.approx((other.slope, other.offset))
    assert np.isfinite(calibration.cross_fit(probabilities, holes)).all()


@given(
    arrays(float, (12, 3), elements=st.floats(0, 1)),
    st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_prevalence_is_reached_and_order_is_kept(probabilities, wanted, single_label):
    if single_label:
        probabilities = (probabilities + 0.01) / (probabilities + 0.01).sum(axis=1, keepdims=True)
        wanted = np.array(wanted) / np.sum(wanted)
    shifted = calibration.shift_prevalence(probabilities, wanted, single_label)
    assert shifted.mean(axis=0) == pytest.approx(np.array(wanted), abs=1e-6)
    if single_label:
        assert shifted.sum(axis=1) == pytest.approx(1)
        odds = np.log(shifted) - np.log(probabilities)
        assert odds - odds[:, :1] == pytest.approx(np.tile(odds[0] - odds[0, 0], (12, 1)), abs=1e-6)
    else:
        for label in range(3):
            assert (np.diff(shifted[np.argsort(probabilities[:, label]), label]) >= -1e-12).all()


def test_prevalence_by_hand():
    votes = np.array([[1.0, 0.0], [0.5, 0.0], [np.nan, np.nan]])
    assert calibration.prevalence(votes) == pytest.approx([2 / 3, 1 / 6])
    assert calibration.shift_prevalence([[0.5, 0.9]], [0.2, 0.9]) == pytest.approx(np.array([[0.2, 0.9]]))
    with pytest.raises(ValueError, match="no document has votes"):
        calibration.prevalence(votes[2:])
    with pytest.raises(ValueError, match="prevalence 0.0 of label 1"):
        calibration.shift_prevalence([[0.5, 0.9]], [0.2, 0.0])
    with pytest.raises(ValueError, match="one number for each of 2"):
        calibration.shift_prevalence([[0.5, 0.9]], [0.2])


@pytest.mark.parametrize("sure, wanted", [(1.0, 1e-6), (0.0, 1 - 1e-6), (1.0, 1e-3), (0.0, 0.999)])
def test_a_prevalence_far_from_what_is_predicted_is_reached(sure, wanted):
    """The offset lies on the other side of the wanted logit: -32 for a certain label that one in a million has."""
    shifted = calibration.shift_prevalence(np.full((4, 2), sure), [wanted, 0.5])
    assert shifted.mean(axis=0) == pytest.approx(np.array([wanted, 0.5]), rel=1e-6)


def expected_f1(said, probabilities):
    """Returns the expected example-F1 of one set, by all sets that the majority may have chosen."""
    total = 0.0
    for chosen in product([0.0, 1.0], repeat=len(probabilities)):
        weight = np.prod([p if c else 1 - p for p, c in zip(probabilities, chosen, strict=True)])
        total += weight * metrics.example_f1([np.array(said, float)], [np.array(chosen)])[0]
    return total


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_decisions_are_the_best_of_all_sets(probabilities):
    chosen = calibration.decide([probabilities])[0]
    best = max(expected_f1(said, probabilities) for said in product([0, 1], repeat=len(probabilities)))
    assert expected_f1(chosen, probabilities) == pytest.approx(best, abs=1e-9)


def test_decisions_by_hand():
    # One label: the set {l} has F1 p, the empty set 1 - p.
    assert (calibration.decide([[0.49], [0.5], [0.51]])[:, 0] == [False, False, True]).all()
    # Two labels of 0.4: one said gives 0.24 + 0.16 x 2/3 = 0.347, none 0.36, both 0.48 x 2/3 + 0.16 = 0.48.
    assert calibration.decide([[0.4, 0.4]]).all()
    assert calibration.decide(np.full((1, 2), 0.2)).sum() == 0
    assert calibration.decide(np.zeros((0, 3))).shape == (0, 3)
    many = np.random.default_rng(0).random((50, 28))
    said = calibration.decide(many)
    lowest, highest = np.where(said, many, 1).min(1), np.where(said, 0, many).max(1)
    assert (lowest >= highest).all()


def test_errors_name_what_is_wrong():
    probabilities, votes, _ = draw(documents=20)
    cases = [
        (probabilities, np.zeros_like(votes), "no positive"),
        (probabilities, np.ones_like(votes), "every label"),
        (probabilities, np.full_like(votes, np.nan), "0 documents with votes"),
        (probabilities, votes[:, :2], r"shape \(20, 4\) and votes \(20, 2\)"),
        (logit(probabilities), votes, "not logits"),
        (np.where(votes > 2, votes, np.inf), votes, "outside"),
        (np.where(np.arange(4) == 1, np.nan, probabilities), votes, "NaN or outside .* in 20 documents"),
        (probabilities[0], votes[0], "must have shape"),
        (probabilities, 2 * votes, "shares of annotators"),
    ]
    for given_probabilities, given_votes, message in cases:
        with pytest.raises(ValueError, match=message):
            calibration.fit(given_probabilities, given_votes)
    with pytest.raises(ValueError, match="must sum to one"):
        calibration.fit(probabilities, votes, single_label=True)
    with pytest.raises(ValueError, match="votes of a single-label set"):
        calibration.fit(probabilities / probabilities.sum(1, keepdims=True), votes, single_label=True)
    with pytest.raises(ValueError, match="calibrated for 4 labels; got 2"):
        calibration.apply(calibration.fit(probabilities, votes), probabilities[:, :2])
    with pytest.raises(ValueError, match="3 documents cannot be cut into 5 folds"):
        calibration.cross_fit(probabilities[:3], votes[:3])
    with pytest.raises(ValueError, match="no positive"):
        lone = np.zeros_like(votes)
        lone[0] = 1
        calibration.cross_fit(probabilities, lone)
