import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlutils import metrics
from mlutils.training.rewards import example_f1_reward, marginals_reward, squared_distance

SETS = np.array(list(itertools.product([False, True], repeat=2)))  # all answers about two labels
VOTES = np.array([0.3, 0.8])
GROUP = 4


def policy(answers, seed=0):
    """Returns the probabilities of some answers under a softmax, and their derivatives by its parameters."""
    weights = np.exp(np.random.default_rng(seed).normal(size=answers))
    probabilities = weights / weights.sum()
    return probabilities, np.diag(probabilities) - np.outer(probabilities, probabilities)


def expected(outcomes, malformed, probabilities, reward, size=GROUP):
    """Returns GRPO's expected gradient by enumeration of all groups: mean over i of (r_i - mean r) grad log P(y_i)."""
    total = np.zeros(len(outcomes))
    for group in itertools.product(range(len(outcomes)), repeat=size):
        rewards = reward(outcomes[list(group)], malformed[list(group)])
        scores = np.eye(len(outcomes))[list(group)] - probabilities
        total += probabilities[list(group)].prod() * (rewards - rewards.mean()) @ scores / size
    return total


def test_marginals_reward_follows_the_squared_distance():
    probabilities, slopes = policy(4)
    wanted = -2 * (probabilities @ SETS - VOTES) @ SETS.T.astype(float) @ slopes
    fine = np.zeros(4, bool)
    found = expected(SETS, fine, probabilities, lambda said, bad: marginals_reward(said, bad, VOTES))
    np.testing.assert_allclose(found, (1 - 1 / GROUP) * wanted, atol=1e-12)


def test_the_plain_mean_of_the_others_would_be_biased():
    def plain(said, _):
        others = (said.sum(0) - said) / (GROUP - 1)
        return -2 * (said * (others - VOTES)).sum(1)

    probabilities, slopes = policy(4)
    wanted = -2 * (probabilities @ SETS - VOTES) @ SETS.T.astype(float) @ slopes
    found = expected(SETS, np.zeros(4, bool), probabilities, plain)
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine < 0.95


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_malformed_answer_counts_as_the_empty_set_and_costs_the_penalty(penalty):
    # The fifth answer is malformed; that a label was read out of it must not matter.
    outcomes, malformed = np.vstack([SETS, [True, False]]), np.array([False] * 4 + [True])
    probabilities, slopes = policy(5, seed=1)
    said = outcomes * ~malformed[:, None]
    wanted = (-2 * (probabilities @ said - VOTES) @ said.T - penalty * malformed) @ slopes
    found = expected(
        outcomes, malformed, probabilities, lambda said, bad: marginals_reward(said, bad, VOTES, penalty), size=3
    )
    np.testing.assert_allclose(found, (1 - 1 / 3) * wanted, atol=1e-12)


def test_marginals_reward_by_hand():
    # First label: said by two of three; each of the two sees one other who says it, and 1 / (3 - 2) - 0.5 = 0.5.
    said = np.array([[True, False], [True, False], [False, False]])
    np.testing.assert_allclose(marginals_reward(said, [False] * 3, [0.5, 1.0]), [-1, -1, 0])


def test_f1_reward_by_hand():
    said = np.array([[True, True, False], [True, False, True], [True, True, False], [False, False, False]])
    rewards = example_f1_reward(said, [False, False, True, False], [True, True, False])
    np.testing.assert_allclose(rewards, [1, 0.5, 0, 0])
    np.testing.assert_allclose(example_f1_reward([[False, False]], [False], [False, False]), [1])


def test_squared_distance_has_no_bias():
    probabilities, _ = policy(4)
    wanted = ((probabilities @ SETS - VOTES) ** 2).sum()
    groups = list(itertools.product(range(4), repeat=3))
    found = sum(probabilities[list(g)].prod() * squared_distance(SETS[list(g)], [False] * 3, VOTES) for g in groups)
    assert found == pytest.approx(wanted)


@given(arrays(bool, (6, 3)), arrays(float, 3, elements=st.floats(0, 1)))
def test_squared_distance_agrees_with_the_metric(said, votes):
    # The metric is the same correction seen from the other side: answers in the place of annotators.
    other = metrics.corrected_squared_error(votes[None], said.mean(0)[None], np.array([6]))[0]
    assert squared_distance(said, np.zeros(6, bool), votes) == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize(
    ("said", "malformed", "votes", "message"),
    [
        (np.zeros((2, 2)), [False] * 2, VOTES, "3 or more"),
        (np.zeros((3, 2)), [False] * 3, [0.5, 1.5], r"\[0, 1\]"),
        (np.zeros((3, 2)), [False] * 3, [0.5, np.nan], r"\[0, 1\]"),
        (np.zeros((3, 2)), [False] * 4, VOTES, "must be"),
        (np.zeros((3, 2)), [False] * 3, [0.5], "must be"),
    ],
)
def test_marginals_reward_refuses(said, malformed, votes, message):
    with pytest.raises(ValueError, match=message):
        marginals_reward(said, malformed, votes)
