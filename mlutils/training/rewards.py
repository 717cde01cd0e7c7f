"""Rewards for groups of answers sampled from one prompt, for reinforcement learning (ours, not the paper's).

A malformed answer says nothing: it is treated as the empty set, and what it costs is named. All rewards are meant for
GRPO's advantages r_i - mean r, not divided by a standard deviation.
"""

import numpy as np
from numpy.typing import ArrayLike

from mlutils import metrics

PENALTY = 1.0  # what a malformed answer costs under `marginals_reward`: as much as one label wholly missed


def example_f1_reward(said: ArrayLike, malformed: ArrayLike, gold: ArrayLike) -> np.ndarray:
    """Returns the example-F1 of each answer with the gold set, 0 where it is malformed.

    said: bool (G, L); malformed: bool (G,); gold: bool (L,). Returns (G,) in [0, 1]; two empty sets: 1.
    Raises ValueError for other shapes.
    """
    said, malformed, gold = _checked(said, malformed, gold)
    return np.where(malformed, 0.0, metrics.example_f1(said, np.broadcast_to(gold, said.shape)))


def marginals_reward(said: ArrayLike, malformed: ArrayLike, votes: ArrayLike, penalty: float = PENALTY) -> np.ndarray:
    """Returns r_i = -2 sum_l [l in y_i] (sum over k != i of [l in y_k] / (G - 2) - H_l), -penalty where malformed.

    With p_l the share of sampled answers that say label l, it makes GRPO follow -sum_l (p_l - H_l)^2 - penalty
    P(malformed), exactly and times 1 - 1/G:
    1. The wanted gradient is E[score(y) w(y)], score(y) = grad log P(y), w(y) = -2 sum_l [l in y] (p_l - H_l).
    2. Given y_i and a divisor c, r_i is -2 sum_l [l in y_i] ((G - 1) p_l / c - H_l) on average, and each of the other
       r_j moves by -2 sum_l [l in y_i] p_l / c: y_i is one of the answers that it counts.
    3. So r_i - mean r is (1 - 1/G) times -2 sum_l [l in y_i] ((G - 2) p_l / c - H_l), up to a constant, which the score
       removes: c = G - 2 gives w. (c = G - 1, the plain mean of the others, would pull p_l above H_l.)

    said: bool (G, L); malformed: bool (G,); votes: (L,) H, shares in [0, 1]. Returns (G,). Raises ValueError for other
    shapes, shares outside [0, 1], and fewer than three answers.
    """
    said, malformed, votes = _checked(said, malformed, votes)
    if len(said) < 3:
        raise ValueError(f"a group of {len(said)} answers is too small for this reward: take 3 or more")
    if not ((votes >= 0) & (votes <= 1)).all():
        raise ValueError(f"votes must be shares in [0, 1], got {votes}")
    others = (said.sum(0) - said) / (len(said) - 2)  # (answers, labels)
    return -2 * (said * (others - votes)).sum(1) - penalty * malformed


def squared_distance(said: ArrayLike, malformed: ArrayLike, votes: ArrayLike) -> float:
    """Returns sum_l (p_l - H_l)^2 as estimated from a group of answers, without bias (below zero at times).

    The square of a share of G answers is too large on average; the share of *pairs* of answers that both say a label
    is not. said: bool (G, L); malformed: bool (G,); votes: (L,). Raises ValueError for other shapes and one answer.
    """
    said, malformed, votes = _checked(said, malformed, votes)
    size, counts = len(said), said.sum(0)
    if size < 2:
        raise ValueError("one answer says nothing about its own spread: take 2 or more")
    pairs = counts * (counts - 1) / (size * (size - 1))
    return float((pairs - 2 * votes * counts / size + votes**2).sum())


def _checked(said, malformed, target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the arrays as numbers, with malformed answers saying nothing."""
    said, malformed, target = np.asarray(said, float), np.asarray(malformed, bool), np.asarray(target, float)
    if said.ndim != 2 or malformed.shape != said.shape[:1] or target.shape != said.shape[1:]:
        raise ValueError(
            f"said {said.shape}, malformed {malformed.shape} and target {target.shape} must be (G, L), (G,) and (L,)"
        )
    return said * ~malformed[:, None], malformed, target
