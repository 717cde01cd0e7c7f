"""Calibration of label probabilities on soft votes: no model call, a few numbers to fit (ours, not the paper's).

Two parameters shared by all labels, a slope and an offset in logit space, with or without an offset per label that is
shrunk towards the shared one; a shift to a given prevalence; and the label sets with the best expected example-F1.
Single-label sets have a slope (one over the temperature) and offsets of the classes on log probabilities.

Fit on traced train documents and apply to the test documents, or use `cross_fit` on the test documents and say so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, logsumexp, softmax
from sklearn.model_selection import KFold

from mlutils import metrics

CLIP = 1e-8  # as in metrics.nll, so that what was 0 or 1 has a finite logit
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # strengths tried for the offsets of labels
FOLDS = 5  # of all cross-validation and cross-fitting
LARGEST = 50.0  # of a weight or offset: separable votes have no finite optimum


class FitError(ValueError):
    """Raised where documents are too few, or too much alike, for anything to be fitted on them."""


@dataclass(frozen=True)
class Calibration:
    """Logits become slope x logit + offset + offsets; in single-label sets log probabilities, before a softmax."""

    slope: float
    offset: float
    offsets: np.ndarray  # (L,), zeros where labels share the offset
    single_label: bool = False
    ridge: float | None = None  # strength that holds the offsets of labels together, None: none fitted


def fit(
    probabilities: ArrayLike,
    votes: ArrayLike,
    offsets: bool = False,
    single_label: bool = False,
    ridges: Sequence[float] = RIDGES,
    seed: int = 0,
) -> Calibration:
    """Returns the calibration with the lowest mean NLL on soft votes; the slope is not below zero.

    probabilities, votes: (D, L); documents without votes (NaN) are left out. With `offsets` each label has its own,
    shrunk towards the shared one by a ridge whose strength cross-validation within these documents chooses. To
    calibrate decisions, give what the annotators' majority chose in place of votes. Raises ValueError for shapes that
    differ and NaN probabilities, FitError for fewer documents than folds and votes without a positive or a negative.
    """
    probabilities, votes = check_probabilities(probabilities, single_label), np.asarray(votes, float)
    if probabilities.shape != votes.shape:
        raise ValueError(f"probabilities have shape {probabilities.shape} and votes {votes.shape}: they must be alike")
    known = find_votes(votes, single_label)
    features, votes = to_logits(probabilities[known], single_label)[..., None], votes[known]
    ridge = choose_ridge(features, votes, single_label, 0.0, ridges, seed, nonnegative=True) if offsets else None
    slope, offset, shifts = fit_logistic(features, votes, single_label, 0.0, ridge, nonnegative=True)
    return Calibration(float(slope[0]), offset, shifts, single_label, ridge)


def apply(calibration: Calibration, probabilities: ArrayLike) -> np.ndarray:
    """Returns calibrated probabilities, (D, L). Raises ValueError for NaN or another number of labels."""
    probabilities = check_probabilities(probabilities, calibration.single_label)
    if probabilities.shape[1] != len(calibration.offsets):
        raise ValueError(f"calibrated for {len(calibration.offsets)} labels; got {probabilities.shape[1]}")
    logits = calibration.slope * to_logits(probabilities, calibration.single_label)
    return to_probabilities(logits + calibration.offset + calibration.offsets, calibration.single_label)


def cross_fit(
    probabilities: ArrayLike, votes: ArrayLike, single_label: bool = False, seed: int = 0, **options
) -> np.ndarray:
    """Returns calibrated probabilities, (D, L), each document's by a calibration fitted on other documents only.

    For test documents, and to be marked as such. `options` as in `fit`. Raises ValueError as `fit` does, on any fold.
    """
    probabilities, votes = check_probabilities(probabilities, single_label), np.asarray(votes, float)

    def predict(fitted, held):
        found = fit(probabilities[fitted], votes[fitted], single_label=single_label, seed=seed, **options)
        return apply(found, probabilities[held])

    return predict_held_out(predict, *probabilities.shape, seed)


# -- prevalence --------------------------------------------------------------------------------------------------------
def prevalence(votes: ArrayLike) -> np.ndarray:
    """Returns each label's mean vote share, (L,), with half a vote for and half against, so that none is 0 or 1.

    votes: (D, L), rows without votes (NaN) are left out. Raises ValueError where none is left.
    """
    votes = np.asarray(votes, float)
    votes = votes[~np.isnan(votes).any(axis=1)]
    if not len(votes):
        raise ValueError("no document has votes: a prevalence cannot be learnt from them")
    return (votes.sum(axis=0) + 0.5) / (len(votes) + 1)


def shift_prevalence(probabilities: ArrayLike, prevalence: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns probabilities whose mean over documents is the given prevalence, (D, L), by an offset per label.

    Uses no votes of these documents, but all of their predictions. prevalence: (L,), of train or of the
    demonstrations; of the test documents it is transductive, and to be marked as such; in single-label sets it is
    made to sum to one. Raises ValueError for a prevalence that is not between 0 and 1.
    """
    probabilities = check_probabilities(probabilities, single_label)
    prevalence = np.asarray(prevalence, float)
    if prevalence.shape != probabilities.shape[1:]:
        raise ValueError(f"prevalence must be one number for each of {probabilities.shape[1]} labels")
    bad = np.flatnonzero(~((prevalence > 0) & (prevalence < 1)))
    if bad.size:
        raise ValueError(
            f"prevalence {prevalence[bad[0]]} of label {bad[0]} cannot be reached by an offset: it must be between 0 "
            "and 1; calibration.prevalence(votes) is"
        )
    logits = to_logits(probabilities, single_label)
    if single_label:
        return softmax(logits + _class_shift(logits, prevalence / prevalence.sum()), axis=1)
    low, high = (sign * np.full(len(prevalence), 2 * -logit(CLIP)) + logit(prevalence) for sign in (-1, 1))
    for _ in range(80):  # bisection: the mean rises with the offset
        middle = (low + high) / 2
        over = expit(logits + middle).mean(axis=0) > prevalence
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return expit(logits + (low + high) / 2)


def _class_shift(logits, prevalence):
    """Returns the offsets (L,) at which the mean softmax is the prevalence: the optimum of a convex function."""

    def loss(shift):
        shifted = logits + shift  # (documents, labels)
        slope = softmax(shifted, axis=1).mean(axis=0) - prevalence
        return logsumexp(shifted, axis=1).mean() - shift @ prevalence, slope

    start = np.log(prevalence) - np.log(softmax(logits, axis=1).mean(axis=0))
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).x


# -- decisions ---------------------------------------------------------------------------------------------------------
def decide(probabilities: ArrayLike) -> np.ndarray:
    """Returns the label sets with the highest expected example-F1 if labels are independent, bool (D, L).

    probabilities: (D, L), that a label is in the reference set, which is the majority's: calibrate them on that. Two
    empty sets count 1. The best set of a size holds the most probable labels, so the L + 1 sizes are compared; of
    equally good ones the smallest is taken. Raises ValueError for NaN or numbers outside [0, 1].
    """
    probabilities = check_probabilities(probabilities, single_label=False)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    documents, labels = ranked.shape
    inside, outside = _counts(ranked), _counts(ranked[:, ::-1])
    hits, misses = np.arange(labels + 1)[:, None], np.arange(labels + 1)[None, :]
    expected = np.empty((documents, labels + 1))
    expected[:, 0] = outside[labels][:, 0]
    for size in range(1, labels + 1):
        # hits true labels among the first `size`, misses among the others; F1 = 2 hits / (size + hits + misses).
        f1 = 2 * hits / (size + hits + misses)
        expected[:, size] = np.einsum("di,ij,dj->d", inside[size], f1, outside[labels - size])
    size = (expected > expected.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)
    chosen = np.zeros(ranked.shape, bool)
    np.put_along_axis(chosen, order, np.arange(labels) < size[:, None], axis=1)
    return chosen


def _counts(ranked):
    """Returns for k = 0 ... L the distribution of how many of the first k labels are true, each (D, L + 1)."""
    documents, labels = ranked.shape
    counts = [np.eye(1, labels + 1).repeat(documents, axis=0)]
    for label in range(labels):
        p = ranked[:, label : label + 1]
        more = counts[-1] * (1 - p)
        more[:, 1:] += counts[-1][:, :-1] * p
        counts.append(more)
    return counts


# -- the logistic model that calibration and stacking share ------------------------------------------------------------
def fit_logistic(
    features: np.ndarray,
    votes: np.ndarray,
    single_label: bool,
    ridge: float,
    offset_ridge: float | None,
    nonnegative: bool = False,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Returns weights (V,), shared offset and offsets of labels (L,) with the lowest NLL summed over documents.

    features: (D, L, V), votes: (D, L). `ridge` x half the squared weights (of features scaled to spread one) and
    `offset_ridge` x half the squared offsets are added; None keeps the offsets at zero. In single-label sets there is
    no shared offset. `nonnegative` keeps the weights from falling below zero.
    """
    documents, labels, views = features.shape
    scale = features.std(axis=(0, 1))
    scale = np.where(scale > 1e-12, scale, 1.0)
    scaled = features / scale

    def loss(parameters):
        weights, offset, shifts = parameters[:views], parameters[views], parameters[views + 1 :]
        logits = scaled @ weights + offset + shifts  # (documents, labels)
        if single_label:
            value, slope = -(votes * log_softmax(logits, axis=1)).sum(), softmax(logits, axis=1) - votes
        else:
            value, slope = (np.logaddexp(0, logits) - votes * logits).sum(), expit(logits) - votes
        strength = offset_ridge or 0.0
        value += (ridge * weights @ weights + strength * shifts @ shifts) / 2
        by_view, by_label = np.tensordot(slope, scaled, 2) + ridge * weights, slope.sum(axis=0) + strength * shifts
        return value / documents, np.concatenate([by_view, [slope.sum()], by_label]) / documents

    free = (-LARGEST, LARGEST)
    bounds = [(0.0, LARGEST) if nonnegative else free] * views
    bounds += [(0.0, 0.0) if single_label else free] + [(0.0, 0.0) if offset_ridge is None else free] * labels
    start = np.concatenate([np.minimum(scale / views, LARGEST), np.zeros(labels + 1)])
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 2_000, "maxfun": 20_000}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return found[:views] / scale, float(found[views]), found[views + 1 :]


def choose_ridge(
    features: np.ndarray,
    votes: np.ndarray,
    single_label: bool,
    ridge: float | None,
    ridges: Sequence[float],
    seed: int,
    nonnegative: bool = False,
) -> float:
    """Returns the strength of `ridges` with the lowest cross-validated NLL, for the offsets.

    `ridge` is the strength for the weights; None: the same as for the offsets. Raises ValueError for too few documents.
    """

    def loss(strength):
        def predict(fitted, held):
            strengths = (strength if ridge is None else ridge), strength
            found = fit_logistic(features[fitted], votes[fitted], single_label, *strengths, nonnegative)
            return predict_logistic(features[held], *found, single_label)

        nll = metrics.nll_single if single_label else metrics.nll
        return nll(predict_held_out(predict, *votes.shape, seed), votes).mean()

    return min(ridges, key=loss)


def predict_logistic(features, weights, offset, offsets, single_label) -> np.ndarray:
    """Returns the probabilities (D, L) of features (D, L, V) by what `fit_logistic` returns."""
    return to_probabilities(features @ weights + offset + offsets, single_label)


def predict_held_out(predict: Callable, documents: int, labels: int, seed: int) -> np.ndarray:
    """Returns predictions (D, L) put together from `predict(fitted rows, held-out rows)` over shuffled folds.

    Folds depend on the number of documents and the seed alone. Raises FitError for fewer documents than folds.
    """
    if documents < FOLDS:
        raise FitError(f"{documents} documents cannot be cut into {FOLDS} folds: give more documents")
    predicted = np.empty((documents, labels))
    for fitted, held in KFold(FOLDS, shuffle=True, random_state=seed).split(np.arange(documents)):
        predicted[held] = predict(fitted, held)
    return predicted


def to_logits(probabilities: np.ndarray, single_label: bool = False, clip: float = CLIP) -> np.ndarray:
    """Returns logits, or log probabilities in single-label sets, of probabilities kept so far from 0 and 1."""
    clipped = np.clip(probabilities, clip, 1 - clip)
    return np.log(clipped) if single_label else logit(clipped)


def to_probabilities(logits: np.ndarray, single_label: bool = False) -> np.ndarray:
    """Returns the probabilities of logits: sigmoid, or softmax in single-label sets."""
    return softmax(logits, axis=1) if single_label else expit(logits)


def find_votes(votes: np.ndarray, single_label: bool) -> np.ndarray:
    """Returns which documents have votes, bool (D,). Raises FitError for votes on which nothing can be fitted."""
    known = ~np.isnan(votes).any(axis=1)
    votes = votes[known]
    if ((votes < -1e-9) | (votes > 1 + 1e-9)).any():
        raise ValueError("votes must be shares of annotators in [0, 1]")
    if single_label and len(votes) and np.abs(votes.sum(axis=1) - 1).max() > 1e-4:
        raise ValueError("votes of a single-label set must sum to one in each document")
    if not (votes > 0).any():
        raise FitError(
            f"the {len(votes)} documents with votes hold no positive: the shares of annotators (where decisions are "
            "fitted, the majorities) are 0 for every label, so there is nothing to calibrate on; give more documents"
        )
    if not single_label and not (votes < 1).any():
        raise FitError(
            f"the {len(votes)} documents with votes hold no negative: the shares of annotators (where decisions are "
            "fitted, the majorities) are 1 for every label; give more documents"
        )
    return known


def check_probabilities(probabilities: ArrayLike, single_label: bool) -> np.ndarray:
    """Returns probabilities as an array (D, L) in [0, 1]. Raises ValueError for anything else."""
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim != 2 or not probabilities.shape[1]:
        raise ValueError(f"probabilities must have shape (D, L); got {probabilities.shape}")
    rows = np.flatnonzero(~((probabilities >= -1e-9) & (probabilities <= 1 + 1e-9)).all(axis=1))
    if rows.size:
        raise ValueError(
            f"probabilities are NaN or outside [0, 1] in {rows.size} documents (first rows {rows[:5].tolist()}): "
            "give probabilities, not logits, and leave out documents that failed"
        )
    if single_label and len(probabilities) and np.abs(probabilities.sum(axis=1) - 1).max() > 1e-4:
        raise ValueError("probabilities of a single-label set must sum to one: use the method's single-label form")
    return np.clip(probabilities, 0.0, 1.0)
