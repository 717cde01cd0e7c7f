"""Turns logits into label probabilities, one function a readout (Tables 2 and 5): arrays in, arrays out.

Where a step holds L + 1 numbers, none is last. A document without a label step says nothing about its labels and gets
1/L for each, as in the paper's code.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax

from mlutils.readouts import bradley_terry
from mlutils.readouts.checks import check_steps, refuse_rows


def compare_to_none(label_logits: ArrayLike, none_logits: ArrayLike) -> np.ndarray:
    """Returns sigmoid(s_l - s_none) at the first label step.

    label_logits: (D, L), none_logits: (D,). Returns (D, L), rows need not sum to one. Raises ValueError for logits that
    are not finite and for shapes that do not fit.
    """
    label_logits = _finite("label_logits", label_logits, 2)
    none_logits = _finite("none_logits", none_logits, 1)
    if len(none_logits) != len(label_logits):
        raise ValueError(f"label_logits have {len(label_logits)} documents and none_logits {len(none_logits)}")
    return expit(label_logits - none_logits[:, None])


def first_step_softmax(label_logits: ArrayLike) -> np.ndarray:
    """Returns the softmax over the labels at the first label step: compare-to-none for single-label sets.

    label_logits: (D, L) without none. Returns (D, L), rows sum to one. Raises ValueError for logits that are not
    finite.
    """
    return softmax(_finite("label_logits", label_logits, 2), axis=1)


def hard(said: ArrayLike, eps: float = 1e-8) -> np.ndarray:
    """Returns 1 - eps for labels in the answer and eps for the others.

    said: bool (D, L). Returns (D, L). Raises ValueError for another type or shape.
    """
    return np.where(_said(said), 1 - eps, eps)


def hard_single(said: ArrayLike, eps: float = 1e-8) -> np.ndarray:
    """Returns the label said as a one-hot row clipped to [eps, 1 - eps], for single-label sets.

    Several labels said share the row evenly; no label said gives 1/L. said: bool (D, L). Returns (D, L). Raises
    ValueError for another type or shape.
    """
    said = _said(said)
    said = np.where(said.any(axis=1, keepdims=True), said, True)
    return np.clip(said / said.sum(axis=1, keepdims=True), eps, 1 - eps)


def max_over_generations(step_probabilities: ArrayLike) -> np.ndarray:
    """Returns each label's largest probability over the label steps; 1/L for a document without a step.

    step_probabilities: (D, R, L + 1), a missing step is NaN throughout, none last. Returns (D, L). Raises ValueError
    for a step that is missing in part or before another, or outside [0, 1].
    """
    steps, present = check_steps(step_probabilities)
    largest = np.where(present[..., None], steps, 0.0)[..., :-1].max(axis=1, initial=0.0)  # (D, L)
    return uniform_where(~present.any(axis=1), largest)


def path_marginal(step_probabilities: ArrayLike, goes_on: ArrayLike) -> np.ndarray:
    """Returns P(l is in the answer) along the greedy path, the sum over steps of P(step is reached) p(l | step).

    Ours, not the paper's. A step is reached if the list went on after every earlier one. Sums over one are cut to one
    (a model can give a label mass twice); 1/L for a document without a step. step_probabilities: (D, R, L + 1) as in
    `max_over_generations`; goes_on: (D, R), probability that another label follows step r, read only where step r + 1
    exists. Returns (D, L). Raises ValueError as `max_over_generations` does, and where goes_on is needed and missing or
    outside [0, 1].
    """
    steps, present = check_steps(step_probabilities)
    goes_on = np.asarray(goes_on, dtype=float)
    if goes_on.shape != present.shape:
        raise ValueError(f"goes_on must have shape {present.shape}, one number a step; got {goes_on.shape}")
    going = np.where(present[:, 1:], goes_on[:, :-1], 0.0)
    refuse_rows(~((going >= 0) & (going <= 1)).all(axis=1), "goes_on is missing or outside [0, 1] before a later step")
    reached = np.ones(present.shape)  # (D, R)
    reached[:, 1:] = np.cumprod(going, axis=1)
    total = (reached[..., None] * np.where(present[..., None], steps, 0.0))[..., :-1].sum(axis=1)  # (D, L)
    return uniform_where(~present.any(axis=1), np.minimum(total, 1.0))


def unary(yes_logits: ArrayLike, no_logits: ArrayLike) -> np.ndarray:
    """Returns P(reasonable) against unreasonable for each label: the unary breakdown.

    yes_logits, no_logits: (D, L). Returns (D, L). Raises ValueError for logits that are not finite or of two shapes.
    """
    return expit(_log_odds(yes_logits, no_logits))


def unary_single(yes_logits: ArrayLike, no_logits: ArrayLike, conventions: str = "ours") -> np.ndarray:
    """Returns the softmax over labels of the log-odds of reasonable, for single-label sets.

    `conventions="released"`: of the probabilities, as in the code of the paper, which is nearly uniform whatever the
    model says. yes_logits, no_logits: (D, L). Returns (D, L), rows sum to one. Raises ValueError as `unary` does.
    """
    odds = _log_odds(yes_logits, no_logits)
    return softmax(expit(odds) if conventions == "released" else odds, axis=1)


def pairwise(wins: ArrayLike, outcomes: bool = False) -> np.ndarray:
    """Returns sigmoid(score_l - score_none) of the Bradley-Terry scores: the pairwise (binary) breakdown.

    wins: (D, L + 1, L + 1), wins[d, i, j] = P(i beats j), none last, NaN where a pair was not asked. `outcomes` rounds
    them to 0 and 1 first; a tie stays one half. Pairs that are all one half give 0.5. Returns (D, L), rows need not sum
    to one. Raises ValueError as `bradley_terry.fit` does, and where a label or none is in no pair.
    """
    scores = _scores(wins, outcomes)
    return expit(scores[:, :-1] - scores[:, -1:])


def pairwise_with_position(first_wins: ArrayLike) -> np.ndarray:
    """Returns `pairwise` with a preference for whichever label stands first, one for all documents, taken out.

    first_wins: (D, L + 1, L + 1), [d, i, j] = P(i beats j) where i stood at a, pairs asked in both orders. Returns
    (D, L). Raises ValueError as `bradley_terry.fit_with_position` does.
    """
    scores = bradley_terry.fit_with_position(first_wins)[0]
    return expit(scores[:, :-1] - scores[:, -1:])


def pairwise_single(wins: ArrayLike, outcomes: bool = False) -> np.ndarray:
    """Returns the softmax of the labels' Bradley-Terry scores, for single-label sets, where none takes no part.

    wins: (D, L, L), else as `pairwise`. Returns (D, L), rows sum to one.
    """
    return softmax(_scores(wins, outcomes), axis=1)


def step_distributions(step_logits: ArrayLike) -> np.ndarray:
    """Returns the softmax of each label step over the labels and none; missing steps stay NaN.

    step_logits: (D, R, L + 1), a missing step is NaN throughout. Returns the same shape. Raises ValueError for a step
    that is missing in part, infinite, or before another.
    """
    logits, present = check_steps(step_logits, bounded=False)
    return np.where(present[..., None], softmax(np.where(present[..., None], logits, 0.0), axis=-1), np.nan)


def _scores(wins, outcomes):
    wins = np.asarray(wins, dtype=float)
    scores = bradley_terry.fit(bradley_terry.round_wins(wins) if outcomes else wins)  # checks the shape, too
    known = ~np.isnan(wins) & ~np.eye(wins.shape[1], dtype=bool)
    refuse_rows(~(known | known.transpose(0, 2, 1)).any(axis=2).all(axis=1), "a label or none is in no pair")
    return scores


def _log_odds(yes_logits, no_logits):
    yes_logits, no_logits = _finite("yes_logits", yes_logits, 2), _finite("no_logits", no_logits, 2)
    if yes_logits.shape != no_logits.shape:
        raise ValueError(f"yes_logits and no_logits must have one shape; got {yes_logits.shape}, {no_logits.shape}")
    return yes_logits - no_logits


def uniform_where(rows: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities (D, L) with 1/L for the documents marked in `rows`, bool (D,)."""
    return np.where(rows[:, None], 1 / probabilities.shape[1], probabilities)


def _said(said):
    said = np.asarray(said)
    if said.dtype != bool or said.ndim != 2:
        raise ValueError(f"said must be bool of shape (D, L); got {said.dtype} of shape {said.shape}")
    return said


def _finite(name, logits, dimensions):
    logits = np.asarray(logits, dtype=float)
    if logits.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions; got shape {logits.shape}")
    refuse_rows(~np.isfinite(logits.reshape(len(logits), -1)).all(axis=1), f"{name} is NaN or infinite")
    return logits
