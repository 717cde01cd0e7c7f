import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, softmax

from mlutils import metrics, readouts

NAN = math.nan
LOGITS = st.floats(-30, 30)


def padded(*documents, width):
    """Returns steps (D, R, width) from one list of steps a document, NaN where a document has fewer."""
    longest = max(map(len, documents))
    missing = [NAN] * width
    return np.array([list(steps) + [missing] * (longest - len(steps)) for steps in documents], dtype=float)


def test_compare_to_none_by_hand():
    value = readouts.compare_to_none([[1.0, 3.0], [0.0, -2.0]], [1.0, 0.0])
    assert value == pytest.approx(np.array([[0.5, 1 / (1 + math.exp(-2))], [0.5, 1 / (1 + math.exp(2))]]))


def test_hard_and_its_identity():
    said = np.array([[True, False], [False, False]])
    assert readouts.hard(said) == pytest.approx(np.array([[1 - 1e-8, 1e-8], [1e-8, 1e-8]]), abs=1e-15)
    votes = np.array([[2 / 3, 1 / 3], [0.0, 1.0]])
    q = readouts.hard(said)
    assert metrics.nll(q, votes) == pytest.approx(18.42 * metrics.l1(q, votes), rel=1e-3)
    assert readouts.hard(said, eps=0.1)[0] == pytest.approx([0.9, 0.1])
    with pytest.raises(ValueError, match="bool"):
        readouts.hard(said.astype(float))


def test_hard_single():
    said = np.array([[False, True, False], [True, True, False], [False, False, False]])
    expected = np.array([[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3])
    assert readouts.hard_single(said) == pytest.approx(expected, abs=2e-8)
    right, wrong = metrics.nll_single(readouts.hard_single(said[:1].repeat(2, axis=0)), [[0, 1, 0], [1, 0, 0]])
    assert right == pytest.approx(0, abs=1e-7) and wrong == pytest.approx(-math.log(1e-8))


def test_max_over_generations_by_hand():
    steps = padded([[0.7, 0.1, 0.2], [0.05, 0.9, 0.05]], [[0.3, 0.1, 0.6]], [], width=3)
    expected = [[0.7, 0.9], [0.3, 0.1], [0.5, 0.5]]  # no step: 1 / L
    assert readouts.max_over_generations(steps) == pytest.approx(np.array(expected))
    assert readouts.max_over_generations(np.empty((2, 0, 5))) == pytest.approx(0.25)


def test_path_marginal_by_hand():
    steps = padded([[0.7, 0.1, 0.2], [0.05, 0.9, 0.05]], [[0.3, 0.1, 0.6]], [], [[0.9, 0.1, 0]] * 2, width=3)
    goes_on = np.array([[0.8, 0.3], [0.4, NAN], [NAN, NAN], [1.0, NAN]])
    expected = [[0.7 + 0.8 * 0.05, 0.1 + 0.8 * 0.9], [0.3, 0.1], [0.5, 0.5], [1.0, 0.2]]
    assert readouts.path_marginal(steps, goes_on) == pytest.approx(np.array(expected))
    three = readouts.path_marginal(padded([[0.5, 0.2, 0.3]] * 3, width=3), [[0.5, 0.4, NAN]])
    assert three == pytest.approx(np.array([[0.5 * 1.7, 0.2 * 1.7]]))
    with pytest.raises(ValueError, match="goes_on is missing"):
        readouts.path_marginal(steps, np.full((4, 2), NAN))
    with pytest.raises(ValueError, match="goes_on must have shape"):
        readouts.path_marginal(steps, goes_on[:, :1])


def test_unary_by_hand():
    value = readouts.unary([[2.0, 0.0]], [[0.0, 0.0]])
    assert value == pytest.approx(np.array([[1 / (1 + math.exp(-2)), 0.5]]))
    single = readouts.unary_single([[2.0, 0.0]], [[0.0, 1.0]])
    assert single == pytest.approx(np.array([[1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))]]))
    released = readouts.unary_single([[2.0, 0.0]], [[0.0, 1.0]], "released")
    assert released == pytest.approx(softmax([[expit(2.0), expit(-1.0)]], axis=1))


def both_ways(upper):
    """Returns wins with their complements and a NaN diagonal, from one document's triangle of P(i beats j)."""
    upper = np.array(upper, dtype=float)
    wins = np.triu(upper, 1) + np.tril(1 - upper.T, -1)
    np.fill_diagonal(wins, NAN)
    return wins[None]


def test_pairwise_by_hand():
    # One label against none: s = score_l - score_none solves sigmoid(s) - p + ridge s = 0 (two scores, s/2 each).
    ((q,),) = readouts.pairwise(both_ways([[0, 0.8], [0, 0]]))
    assert q - 0.8 + 0.01 * math.log(q / (1 - q)) == pytest.approx(0, abs=1e-9)
    # Two labels that beat none alike, and each other never.
    (first, second) = readouts.pairwise(both_ways([[0, 0.5, 0.9], [0, 0, 0.9], [0, 0, 0]]))[0]
    assert first == pytest.approx(second) and 0.85 < first < 0.9
    assert readouts.pairwise(both_ways(np.full((4, 4), 0.5))) == pytest.approx(0.5)
    assert readouts.pairwise(both_ways(np.full((4, 4), 0.5)), outcomes=True) == pytest.approx(0.5)


def test_pairwise_outcomes_forget_by_how_much():
    close, far = both_ways([[0, 0.51, 0.6], [0, 0, 0.4], [0, 0, 0]]), both_ways([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    assert readouts.pairwise(close, outcomes=True) == pytest.approx(readouts.pairwise(far))
    assert abs(readouts.pairwise(close) - readouts.pairwise(far)).max() > 0.3


def test_a_preference_for_the_first_label_is_taken_out():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 4))
    first = expit(scores[:, :, None] - scores[:, None, :] + 1.5)
    first[:, range(4), range(4)] = NAN
    truth = expit(scores[:, :-1] - scores[:, -1:])
    found = readouts.pairwise_with_position(first)
    assert np.abs(found - truth).mean() < 0.03  # the ridge draws a little
    one_order = np.where(np.triu(np.ones((4, 4), bool), 1), first, NAN)  # earlier labels always stand first
    assert np.abs(readouts.pairwise(one_order) - truth).mean() > 0.15


def test_pairwise_single_is_a_softmax_of_the_scores():
    wins = both_ways([[0, 0.9, 0.7], [0, 0, 0.2], [0, 0, 0]])
    value = readouts.pairwise_single(wins)
    assert value == pytest.approx(softmax(readouts.bradley_terry.fit(wins), axis=1))
    assert value.sum() == pytest.approx(1) and list(value[0].argsort()) == [1, 2, 0]


def test_pairs_that_were_not_asked():
    wins = np.tile(both_ways([[0, 0.9, 0.7], [0, 0, 0.2], [0, 0, 0]]), (3, 1, 1))
    wins[1, 0, 1] = wins[1, 1, 0] = NAN  # left out: both labels are still in a pair
    assert np.isfinite(readouts.pairwise(wins)).all()
    wins[2, 2] = wins[2, :, 2] = NAN
    with pytest.raises(ValueError, match=r"none is in no pair in 1 of 3 documents \(first rows \[2\]\)"):
        readouts.pairwise(wins)
    wins[2] = NAN
    with pytest.raises(ValueError, match=r"no pair was answered in 1 of 3 documents \(first rows \[2\]\)"):
        readouts.pairwise_single(wins)


def test_step_distributions_leave_missing_steps():
    logits = padded([[0.0, math.log(2), 0.0], [1.0, 1.0, 1.0]], [[0.0, 0.0, math.log(2)]], width=3)
    value = readouts.step_distributions(logits)
    assert value[0] == pytest.approx(np.array([[0.25, 0.5, 0.25], [1 / 3] * 3]))
    assert np.isnan(value[1, 1]).all() and value[1, 0] == pytest.approx([0.25, 0.25, 0.5])


@given(arrays(float, (3, 2, 4), elements=LOGITS), st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_max_is_the_slow_maximum(logits, lengths):
    for document, length in enumerate(lengths):
        logits[document, length:] = NAN
    value = readouts.max_over_generations(readouts.step_distributions(logits))
    for document, length in enumerate(lengths):
        steps = [np.exp(step) / np.exp(step).sum() for step in logits[document, :length]]
        for label in range(3):
            slow = max((step[label] for step in steps), default=1 / 3)
            assert value[document, label] == pytest.approx(slow)


@given(arrays(float, (3, 4), elements=LOGITS), arrays(float, (3, 4), elements=LOGITS), LOGITS)
def test_probabilities_and_shifts(yes, no, shift):
    for value in (readouts.unary(yes, no), readouts.compare_to_none(yes, no[:, 0])):
        assert ((value >= 0) & (value <= 1)).all()
    for value in (readouts.unary_single(yes, no), readouts.first_step_softmax(yes)):
        assert value.sum(axis=1) == pytest.approx(1)
    assert readouts.unary(yes + shift, no + shift) == pytest.approx(readouts.unary(yes, no), abs=1e-9)
    assert readouts.first_step_softmax(yes + shift) == pytest.approx(readouts.first_step_softmax(yes), abs=1e-9)


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_logits_that_are_not_numbers_name_their_rows(bad):
    logits = np.zeros((4, 2))
    logits[[1, 3], 0] = bad
    for read in (
        lambda: readouts.unary(logits, np.zeros((4, 2))),
        lambda: readouts.unary_single(np.zeros((4, 2)), logits),
        lambda: readouts.compare_to_none(logits, np.zeros(4)),
        lambda: readouts.compare_to_none(np.zeros((4, 2)), logits[:, 0]),
        lambda: readouts.first_step_softmax(logits),
    ):
        with pytest.raises(ValueError, match=r"2 of 4 documents \(first rows \[1, 3\]\)"):
            read()


def test_broken_steps_are_refused():
    good = np.full((2, 2, 3), 1 / 3)
    partly, late, infinite = good.copy(), good.copy(), good.copy()
    partly[1, 1, 0], late[1, 0], infinite[1, 0, 0] = NAN, NAN, math.inf
    for steps, problem in ((partly, "NaN in part"), (infinite, "infinite"), (late, "after a missing one")):
        for read in (readouts.max_over_generations, readouts.step_distributions):
            with pytest.raises(ValueError, match=problem + r".*\[1\]"):
                read(steps)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        readouts.max_over_generations(good * 6)


def test_shapes_that_do_not_fit():
    for read in (
        lambda: readouts.compare_to_none(np.zeros((2, 3)), np.zeros(3)),
        lambda: readouts.compare_to_none(np.zeros(3), np.zeros(3)),
        lambda: readouts.unary(np.zeros((2, 3)), np.zeros((2, 1))),
        lambda: readouts.max_over_generations(np.zeros((2, 3))),
        lambda: readouts.hard(np.zeros(3, dtype=bool)),
    ):
        with pytest.raises(ValueError, match="shape|documents"):
            read()
