"""Bradley-Terry scores of labels from pairwise answers: P(i beats j) = sigmoid(s_i - s_j) (equation 2).

The ridge makes the loss strictly convex, so each document has one optimum. Damped Newton finds it for all documents
at once: a few passes over small dense systems, whose gradients end below 1e-10.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from mlutils.readouts.checks import refuse_rows

RIDGE = 0.01  # the paper's
FLAT = 1e-10  # largest entry of the gradient at which a document is done
MOST = 200  # Newton steps; about eight are usual
TIE = 1e-9  # probabilities this close are the same


def fit(wins: ArrayLike, ridge: float = RIDGE) -> np.ndarray:
    """Returns the scores that minimise sum_{i<j} BCE(p_ij, sigmoid(s_i - s_j)) + ridge * sum s^2 for each document.

    wins: (D, K, K), wins[d, i, j] = P(i beats j) in [0, 1], 0 and 1 allowed; a pair may be given once or as
    complements, the diagonal is not read. A missing pair is NaN and left out: pairs that link all labels determine the
    same scores as all pairs do, but for the ridge, which weighs more beside fewer. Returns (D, K), rows sum to zero.
    Raises ValueError for a ridge that is not positive, probabilities outside [0, 1], complements that do not sum to
    one, and documents without any pair.
    """
    wins = _checked(wins, ridge)
    i, j = np.triu_indices(wins.shape[1], 1)
    given, reverse = wins[:, i, j], 1 - wins[:, j, i]  # (D, pairs)
    refuse_rows(
        (np.abs(given - reverse) > 1e-6).any(axis=1),
        "P(i beats j) and P(j beats i) do not sum to one (answers in both orders? see fit_with_position)",
    )
    p = np.where(np.isnan(given), reverse, given)
    asked = ~np.isnan(p)
    p, weight, design = np.where(asked, p, 0.5), asked.astype(float), _design(i, j, wins.shape[1])
    return _newton(*_drop_unasked(p, weight, design), ridge)


def fit_with_position(first_wins: ArrayLike, ridge: float = RIDGE) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and a preference b for whichever label stands first: P(first wins) = sigmoid(s_i - s_j + b).

    first_wins: (D, K, K), [d, i, j] = P(i beats j) where i stood first, NaN where that order was not asked; it is
    meant for pairs asked in both orders, which tell b from the scores. The two orders of a pair count one half each,
    so that the ridge, which holds b too, weighs as much as in `fit`. Returns (D, K), rows sum to zero, and b (D,), the
    same for all documents. Raises ValueError as `fit` does.
    """
    first_wins = _checked(first_wins, ridge)
    size = first_wins.shape[1]
    i, j = np.nonzero(~np.eye(size, dtype=bool))
    p, reverse = first_wins[:, i, j], first_wins[:, j, i]  # (D, ordered pairs)
    weight = np.where(np.isnan(p), 0.0, np.where(np.isnan(reverse), 1.0, 0.5))
    p, weight, design = _drop_unasked(np.where(np.isnan(p), 0.5, p), weight, _design(i, j, size))
    if not len(p):
        return np.zeros((0, size)), np.zeros(0)
    scores = np.zeros((len(p), size))

    def slope(b):  # of the loss with the scores at their best for b; it grows with b
        nonlocal scores
        scores = _newton(p, weight, design, ridge, b, scores)
        return float((weight * (expit(scores @ design.T + b) - p)).sum() + 2 * ridge * b)

    reach = 1.0
    while slope(reach) < 0 or slope(-reach) > 0:
        reach *= 2
    b = brentq(slope, -reach, reach, xtol=1e-13)
    return _newton(p, weight, design, ridge, b, scores), np.full(len(p), b)


def find_constant(wins: ArrayLike) -> np.ndarray:
    """Returns which documents have the same probability for all pairs asked, bool (D,): they say nothing of labels.

    wins: (D, K, K), NaN where not asked. With complements (`trace.pairwise_wins()`) that is one half everywhere; with
    `trace.pairwise_wins(ordered=True)` it is also whoever always prefers the label at `a` by as much. A document
    without any pair is not constant.
    """
    wins = np.asarray(wins, float)
    off = wins[:, ~np.eye(wins.shape[1], dtype=bool)]  # (D, ordered pairs)
    least, most = (f(np.where(np.isnan(off), empty, off), axis=1) for f, empty in ((np.min, 2), (np.max, -1)))
    return (most >= 0) & (most - least < TIE)


def round_wins(wins: ArrayLike) -> np.ndarray:
    """Returns outcomes: 1 where i beats j, 0 where it loses, one half for a tie; NaN stays."""
    wins = np.asarray(wins, float)
    return np.where(np.isnan(wins) | (np.abs(wins - 0.5) < TIE), wins, (wins > 0.5).astype(float))


def _design(i, j, size) -> np.ndarray:
    """Returns (pairs, K): +1 for the label that would win, -1 for the one that would lose."""
    return np.eye(size)[i] - np.eye(size)[j]


def _drop_unasked(p, weight, design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns p and weight (D, P) and design (P, K) without the pairs that no document has."""
    asked = weight.any(axis=0)
    return p[:, asked], weight[:, asked], design[asked]


def _newton(p, weight, design, ridge, shift=0.0, start=None) -> np.ndarray:
    """Returns the minima (D, N) of sum weight * BCE(p, sigmoid(design @ x + shift)) + ridge * sum x^2.

    p, weight: (D, P), design: (P, N). A step is halved until the loss falls.
    """
    size = design.shape[1]
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(design), size * size)  # (P, N * N)
    x = np.zeros((len(p), size)) if start is None else start.copy()  # (D, N)
    rows = np.arange(len(p))  # of the documents that are not done

    def loss(x, rows):
        eta = x @ design.T + shift
        return (weight[rows] * (np.logaddexp(0, eta) - p[rows] * eta)).sum(axis=1) + ridge * (x**2).sum(axis=1)

    for _ in range(MOST):
        q = expit(x[rows] @ design.T + shift)
        gradient = (weight[rows] * (q - p[rows])) @ design + 2 * ridge * x[rows]
        far = np.abs(gradient).max(axis=1) > FLAT
        rows, q, gradient = rows[far], q[far], gradient[far]
        if not rows.size:
            return x
        # (rows, N, N)
        curvature = ((weight[rows] * q * (1 - q)) @ outer).reshape(-1, size, size) + 2 * ridge * np.eye(size)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]  # (rows, N)
        before, gain = loss(x[rows], rows), 1e-4 * (gradient * step).sum(axis=1)
        slack = 1e-12 * (1 + before)  # the last steps gain less than the loss is rounded by
        length, high = np.ones(len(rows)), np.arange(len(rows))  # high: those whose loss does not fall enough yet
        while high.size:
            after = loss(x[rows[high]] - length[high, None] * step[high], rows[high])
            high = high[after > (before - gain * length + slack)[high]]
            length[high] /= 2
        x[rows] -= length[:, None] * step
    raise ArithmeticError(
        f"no optimum after {MOST} Newton steps for rows {rows[:5].tolist()}: is ridge {ridge} too small?"
    )


def _checked(wins, ridge) -> np.ndarray:
    wins = np.array(wins, dtype=float)
    if wins.ndim != 3 or wins.shape[1] != wins.shape[2] or wins.shape[1] < 2:
        raise ValueError(f"wins must have shape (D, K, K) with K of 2 or more; got {wins.shape}")
    if not ridge > 0:
        raise ValueError(
            f"ridge={ridge} must be above 0: without it the best scores are not unique, and may be infinite"
        )
    wins[:, np.eye(wins.shape[1], dtype=bool)] = np.nan
    refuse_rows(((wins < 0) | (wins > 1)).any(axis=(1, 2)), "a probability of winning is outside [0, 1]")
    refuse_rows(np.isnan(wins).all(axis=(1, 2)), "no pair was answered")
    return wins
