"""Bradley-Terry scores: exact, for all documents at once, equal to a slow optimiser that knows only the formula."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit

from mlutils.readouts import bradley_terry, probabilities
from mlutils.tracing.prompting import pair_up

NAN = math.nan
RIDGE = 0.01


def complete(upper):
    """Returns wins with complements, (D, K, K), from probabilities of the pairs i < j."""
    upper = np.array(upper, float)
    wins = np.full(upper.shape, NAN)
    for i in range(upper.shape[1]):
        for j in range(i + 1, upper.shape[1]):
            wins[:, i, j], wins[:, j, i] = upper[:, i, j], 1 - upper[:, i, j]
    return wins


def cross_entropy(p, eta):
    return p * np.logaddexp(0, -eta) + (1 - p) * np.logaddexp(0, eta)


def slow_loss(scores, wins):
    """Returns equation 2 with the ridge for one document, pair by pair."""
    total = RIDGE * sum(s * s for s in scores)
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            if not np.isnan(wins[i, j]):
                total += cross_entropy(wins[i, j], scores[i] - scores[j])
    return total


def slow_gradient(scores, wins):
    gradient = [2 * RIDGE * s for s in scores]
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            if not np.isnan(wins[i, j]):
                miss = 1 / (1 + math.exp(scores[j] - scores[i])) - wins[i, j]
                gradient[i] += miss
                gradient[j] -= miss
    return np.array(gradient)


@pytest.fixture(scope="module")
def mixed():
    """Thirty documents: soft answers, sharp ones, outcomes of 0 and 1, and pairs that are missing."""
    rng = np.random.default_rng(3)
    soft, sharp = rng.random((10, 5, 5)), expit(rng.normal(0, 12, (10, 5, 5)))
    upper = np.concatenate([soft, sharp, rng.integers(0, 2, (10, 5, 5))])
    upper[::3, 0, 1] = upper[::4, 2, 4] = NAN
    return complete(upper)


def test_two_labels_by_hand():
    # Two scores are s and -s with sigmoid(2 s) - p + 2 ridge s = 0.
    (scores,) = bradley_terry.fit(complete([[[NAN, 0.8], [NAN, NAN]]]))
    assert scores[0] == pytest.approx(-scores[1])
    assert 1 / (1 + math.exp(-2 * scores[0])) - 0.8 + 2 * RIDGE * scores[0] == pytest.approx(0, abs=1e-10)


def test_the_gradient_is_zero_at_the_optimum(mixed):
    for scores, wins in zip(bradley_terry.fit(mixed), mixed, strict=True):
        assert np.abs(slow_gradient(scores, wins)).max() < 1e-8
        assert scores.sum() == pytest.approx(0, abs=1e-8)


def test_a_slow_optimiser_agrees(mixed):
    fast = bradley_terry.fit(mixed)
    for scores, wins in zip(fast, mixed, strict=True):
        slow = minimize(slow_loss, np.zeros(5), args=(wins,), method="BFGS", options={"gtol": 1e-7})
        assert np.abs(scores - slow.x).max() < 1e-4
        assert slow_loss(scores, wins) <= slow.fun + 1e-12


@settings(max_examples=60, deadline=None)
@given(arrays(float, (2, 4, 4), elements=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))))
def test_any_probabilities_have_an_optimum(upper):
    wins = complete(upper)
    for scores, document in zip(bradley_terry.fit(wins), wins, strict=True):
        assert np.abs(slow_gradient(scores, document)).max() < 1e-8


def test_an_order_that_is_won_throughout_is_kept():
    (scores,) = bradley_terry.fit(complete(np.ones((1, 6, 6))))
    assert (np.diff(scores) < 0).all()


def test_ten_thousand_documents_take_less_than_a_second():
    wins = complete(expit(np.random.default_rng(0).normal(0, 3, (10_000, 8, 8))))
    started = time.thread_time()
    scores = bradley_terry.fit(wins)
    assert time.thread_time() - started < 1
    assert np.abs(slow_gradient(scores[-1], wins[-1])).max() < 1e-8


def test_documents_do_not_change_each_other_and_one_triangle_is_enough(mixed):
    fast = bradley_terry.fit(mixed)
    assert bradley_terry.fit(mixed[4:5])[0] == pytest.approx(fast[4], abs=1e-8)
    lower = mixed.copy()
    lower[:, *np.triu_indices(5)] = NAN
    assert bradley_terry.fit(lower) == pytest.approx(fast, abs=1e-8)
    diagonal = mixed.copy()
    diagonal[:, range(5), range(5)] = 0.5
    assert bradley_terry.fit(diagonal) == pytest.approx(fast, abs=1e-8)
    assert bradley_terry.fit(np.full((0, 4, 4), NAN)).shape == (0, 4)


@pytest.mark.parametrize("value, row, problem", [
    (NAN, 2, r"no pair was answered in 1 of 4 documents \(first rows \[2\]\)"),
    (1.2, 1, r"outside \[0, 1\] in 1 of 4 .*\[1\]"),
    (-math.inf, 3, r"outside \[0, 1\].*\[3\]"),
    (0.9, 0, r"do not sum to one.* in 1 of 4 .*\[0\]"),
])  # fmt: skip
def test_impossible_wins_name_their_rows(value, row, problem):
    wins = complete(np.full((4, 3, 3), 0.3))
    wins[row] = value
    with pytest.raises(ValueError, match=problem):
        bradley_terry.fit(wins)


@pytest.mark.parametrize("shape, ridge, problem", [((2, 3), 0.01, "shape"), ((1, 1, 1), 0.01, "shape"),
    ((1, 2, 2), 0, "ridge=0"), ((1, 2, 2), NAN, "ridge=nan")])  # fmt: skip
def test_impossible_arguments(shape, ridge, problem):
    for fit in (bradley_terry.fit, bradley_terry.fit_with_position):
        with pytest.raises(ValueError, match=problem):
            fit(np.full(shape, 0.5), ridge)


def slow_position_loss(parameters, first_wins):
    """Returns the loss of scores and one offset over ordered pairs; both orders of a pair count one half each."""
    documents, size = first_wins.shape[:2]
    scores = parameters[: documents * size].reshape(documents, size)
    offset = parameters[documents * size]
    total = RIDGE * (parameters**2).sum()
    for d in range(documents):
        for i in range(size):
            for j in range(size):
                if i != j and not np.isnan(first_wins[d, i, j]):
                    weight = 1 if np.isnan(first_wins[d, j, i]) else 0.5
                    total += weight * cross_entropy(first_wins[d, i, j], scores[d, i] - scores[d, j] + offset)
    return total


def test_scores_and_position_agree_with_a_slow_optimiser():
    first_wins = expit(np.random.default_rng(5).normal(1, 2, (3, 4, 4)))
    first_wins[0, 1, 2] = first_wins[2, 3, 0] = NAN  # asked in one order only
    scores, offsets = bradley_terry.fit_with_position(first_wins)
    slow = minimize(slow_position_loss, np.zeros(13), args=(first_wins,), method="BFGS", options={"gtol": 1e-7})
    assert scores.ravel() == pytest.approx(slow.x[:12], abs=1e-4)
    assert offsets == pytest.approx(np.full(3, slow.x[12]), abs=1e-4)
    assert len(set(offsets)) == 1


def test_position_alone_leaves_the_scores_at_zero():
    always_a = np.full((2, 5, 5), 0.9)
    for documents, pairs in ((1, 10), (2, 20)):  # ten pairs a document against the same ridge
        scores, offsets = bradley_terry.fit_with_position(always_a[:documents])
        assert np.abs(scores).max() < 1e-8
        assert pairs * (expit(offsets) - 0.9) + 2 * RIDGE * offsets == pytest.approx(0, abs=1e-8)


def test_a_preference_for_a_is_told_from_the_labels():
    true = np.random.default_rng(8).normal(0, 1, (400, 6))
    first_wins = expit(true[:, :, None] - true[:, None, :] + 1.5)
    scores, offsets = bradley_terry.fit_with_position(first_wins, ridge=1e-6)
    assert offsets == pytest.approx(1.5, abs=1e-3)
    assert scores == pytest.approx(true - true.mean(axis=1, keepdims=True), abs=1e-3)
    assert bradley_terry.fit_with_position(np.full((0, 3, 3), 0.5))[1].shape == (0,)


def test_documents_without_information_are_found():
    wins = complete(np.full((4, 3, 3), 0.5))
    wins[1, 0, 1], wins[1, 1, 0] = 0.6, 0.4
    wins[2] = NAN
    assert list(bradley_terry.find_constant(wins)) == [True, False, False, True]
    assert (bradley_terry.fit(wins[[0, 3]]) == 0).all()
    first_wins = np.full((2, 3, 3), NAN)  # asked in one order: a always wins, by as much or by more and less
    first_wins[:, [0, 1, 2], [1, 2, 0]] = [[0.7, 0.7, 0.7], [0.7, 0.8, 0.9]]
    assert list(bradley_terry.find_constant(first_wins)) == [True, False]


def test_outcomes_keep_ties_and_missing_pairs():
    rounded = bradley_terry.round_wins([[[NAN, 0.51], [0.49, NAN]], [[0.5, 0.5 + 1e-12], [1.0, 0.0]]])
    assert np.array_equal(rounded[0], [[NAN, 1], [0, NAN]], equal_nan=True)
    assert rounded[1] == pytest.approx(np.array([[0.5, 0.5], [1, 0]]), abs=1e-9)


LABELS = [f"label {n}" for n in range(60)]


@pytest.fixture(scope="module")
def sparse():
    """True scores of 60 labels and none (3, 61), all comparisons without noise, and those of the sparse design."""
    true = np.random.default_rng(11).normal(0, 1.5, (3, 61))
    true -= true.mean(axis=1, keepdims=True)
    every = expit(true[:, :, None] - true[:, None, :])
    first = np.full(every.shape, NAN)
    names = [*LABELS, "none"]
    for a, b in pair_up(names, "plan", 5, "sparse"):
        first[:, names.index(a), names.index(b)] = every[:, names.index(a), names.index(b)]
    assert np.isfinite(first[0]).sum() == 60 * 8 / 2 + 60
    return true, every, first


def test_sparse_comparisons_give_the_scores_of_all(sparse):
    true, every, first = sparse
    found = [bradley_terry.fit(wins, ridge=1e-8) for wins in (every, first)]
    assert found[0] == pytest.approx(true, abs=1e-4) and found[1] == pytest.approx(true, abs=1e-4)
    wanted = expit(true[:, :-1] - true[:, -1:])
    # The paper's ridge pulls scores to zero, more so beside fewer pairs.
    assert probabilities.pairwise(every) == pytest.approx(wanted, abs=0.005)
    assert probabilities.pairwise(first) == pytest.approx(wanted, abs=0.03)
    outcomes = probabilities.pairwise(first, outcomes=True)
    assert np.isfinite(outcomes).all()
    for row in range(3):
        assert np.corrcoef(outcomes[row], wanted[row])[0, 1] > 0.85


def test_sparse_comparisons_have_the_optimum_of_a_slow_optimiser(sparse):
    first = sparse[2]
    for scores, wins in zip(bradley_terry.fit(first), first, strict=True):
        both = np.where(np.isnan(wins), 1 - wins.T, wins)
        assert np.abs(slow_gradient(scores, both)).max() < 1e-8


def test_sparse_comparisons_of_both_orders_tell_position_from_labels(sparse):
    true, _, first = sparse
    asked = np.isfinite(first) | np.isfinite(first.transpose(0, 2, 1))
    shown = np.where(asked, expit(true[:, :, None] - true[:, None, :] + 0.7), NAN)
    scores, offsets = bradley_terry.fit_with_position(shown, ridge=1e-8)
    assert scores == pytest.approx(true, abs=1e-4) and offsets == pytest.approx(0.7, abs=1e-4)


def test_sparse_comparisons_without_none(sparse):
    true, names = sparse[0][:, :-1], LABELS
    every = expit(true[:, :, None] - true[:, None, :])
    first = np.full(every.shape, NAN)
    for a, b in pair_up(names, "plan", 2, "sparse"):
        first[:, names.index(a), names.index(b)] = every[:, names.index(a), names.index(b)]
    centred = true - true.mean(axis=1, keepdims=True)
    assert bradley_terry.fit(first, ridge=1e-8) == pytest.approx(centred, abs=1e-4)
    shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    assert probabilities.pairwise_single(every) == pytest.approx(shares, abs=0.01)
    assert probabilities.pairwise_single(first) == pytest.approx(shares, abs=0.05)


def test_pairs_that_nobody_was_asked_cost_nothing(sparse):
    first, seen = sparse[2], []
    newton = bradley_terry._newton
    try:
        bradley_terry._newton = lambda p, weight, *rest: seen.append(weight.shape) or newton(p, weight, *rest)
        bradley_terry.fit(first)
        bradley_terry.fit_with_position(first)
    finally:
        bradley_terry._newton = newton
    assert set(seen) == {(3, 300)}
