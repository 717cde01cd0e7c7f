"""Stacking: several views of the same documents combined in logit space, on soft votes (ours, not the paper's).

A view's feature is the logit of its probability for a document and label (log probability in single-label sets, with a
softmax over the classes: a conditional logit). All labels share one weight a view; each label has an offset of its own.
There are two ways to fit. `fit_stack`, for a few documents set aside: one ridge holds weights and offsets. `fit_blend`,
for trained views, which are much alike: no weight is below zero, documents are weighted, and the loss is NLL + l1 x L1.
With NLL alone probabilities are means of votes, whose L1 is needlessly large where nearly all votes are 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from mlutils import metrics
from mlutils.readouts import calibration

RIDGES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # tried by `fit_stack`
L1_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of L1 beside NLL, tried by `fit_blend`
BLEND_CLIP = 1e-6  # how far from 0 and 1 a blend keeps its views
SMALL = 1e-4  # of the smoothed |q - H|, sqrt((q - H)^2 + SMALL), which has a gradient at 0

Views = Mapping[str, ArrayLike]  # name -> probabilities (D, L)


@dataclass(frozen=True)
class Stack:
    """A fitted stack: logit = sum of weight x view's logit + offset + the label's own offset."""

    views: tuple[str, ...]
    weights: np.ndarray  # (V,)
    offset: float
    offsets: np.ndarray  # (L,)
    single_label: bool
    strength: float  # that cross-validation chose: the ridge, or the weight of L1
    clip: float = calibration.CLIP  # how far from 0 and 1 views are kept


def fit_stack(
    views: Views, votes: ArrayLike, single_label: bool = False, ridges: Sequence[float] = RIDGES, seed: int = 0
) -> Stack:
    """Returns the stack fitted on documents with votes, with the ridge of the lowest cross-validated NLL.

    views: name -> probabilities (D, L); votes: (D, L), rows of NaN are left out. Raises ValueError where no view is
    given, a view is NaN somewhere or of another shape, votes hold no positive, or documents are fewer than folds.
    """
    votes = np.asarray(votes, float)
    features = _features(_check(views, votes.shape, single_label), single_label, calibration.CLIP)
    known = calibration.find_votes(votes, single_label)
    features, votes = features[known], votes[known]
    ridge = calibration.choose_ridge(features, votes, single_label, None, ridges, seed)
    weights, offset, offsets = calibration.fit_logistic(features, votes, single_label, ridge, ridge)
    return Stack(tuple(views), weights, offset, offsets, single_label, ridge)


def fit_blend(
    views: Views,
    votes: ArrayLike,
    weights: ArrayLike | None = None,
    single_label: bool = False,
    l1_weights: Sequence[float] = L1_WEIGHTS,
    ridge: float = 5.0,
    seed: int = 0,
) -> Stack:
    """Returns the stack with the lowest weighted NLL + l1 x L1, no weight of a view below zero.

    The weight of L1 is that of the lowest cross-validated sum of NLL and L1, each over that of the base rate.
    views: name -> probabilities (D, L), of documents that no view was trained on; votes: (D, L); weights: (D,) of the
    documents; ridge: of the labels' own offsets. Raises ValueError for shapes that differ, missing numbers, no view,
    and fewer documents than folds.
    """
    votes = np.asarray(votes, float)
    features = _features(_check(views, votes.shape, single_label), single_label, BLEND_CLIP)
    if np.isnan(votes).any():
        raise ValueError("votes are missing in some documents: keep those with votes (Corpus.has_votes)")
    weights = np.ones(len(votes)) if weights is None else np.asarray(weights, float)
    nll = metrics.nll_single if single_label else metrics.nll
    base = np.tile(np.average(votes, axis=0, weights=weights), (len(votes), 1))

    def loss(l1):
        def predict(fitted, held):
            found = _fit_blend(features[fitted], votes[fitted], weights[fitted], l1, ridge, single_label)
            return calibration.predict_logistic(features[held], *found, single_label)

        held_out = calibration.predict_held_out(predict, *votes.shape, seed)
        scores = [
            [np.average(score(q, votes), weights=weights) for q in (held_out, base)] for score in (nll, metrics.l1)
        ]
        return sum(ours / max(theirs, 1e-9) for ours, theirs in scores)

    l1 = l1_weights[0] if len(l1_weights) == 1 else min(l1_weights, key=loss)
    found = _fit_blend(features, votes, weights, l1, ridge, single_label)
    return Stack(tuple(views), *found, single_label, l1, BLEND_CLIP)


def apply(stack: Stack, views: Views) -> np.ndarray:
    """Returns the stack's probabilities, (D, L). Raises ValueError where the views are not those it was fitted on."""
    if set(views) != set(stack.views):
        raise ValueError(f"the stack was fitted on views {list(stack.views)}; got {list(views)}")
    shape = (len(views[stack.views[0]]), len(stack.offsets))
    checked = _check({name: views[name] for name in stack.views}, shape, stack.single_label)
    features = _features(checked, stack.single_label, stack.clip)
    return calibration.predict_logistic(features, stack.weights, stack.offset, stack.offsets, stack.single_label)


def cross_fit(views: Views, votes: ArrayLike, single_label: bool = False, seed: int = 0, **options) -> np.ndarray:
    """Returns stacked probabilities, (D, L), each document's by a stack fitted on other documents only.

    The ridge is chosen anew within each fold's fitted documents (nested cross-validation). For test documents, and to
    be marked as such. `options` as in `fit_stack`. Raises ValueError as `fit_stack` does, on any fold.
    """
    votes = np.asarray(votes, float)
    checked = _check(views, votes.shape, single_label)

    def predict(fitted, held):
        stack = fit_stack(
            {name: p[fitted] for name, p in checked.items()}, votes[fitted], single_label, seed=seed, **options
        )
        return apply(stack, {name: p[held] for name, p in checked.items()})

    return calibration.predict_held_out(predict, *votes.shape, seed)


def _fit_blend(features, votes, weights, l1, ridge, single_label):
    """Returns weights (V,), the shared offset, and the labels' own (L,), by the loss of `fit_blend`."""
    by_view = np.ascontiguousarray(np.moveaxis(features, -1, 0))  # (views, documents, labels)
    weights = weights / weights.mean()
    count = len(by_view)

    def loss(x):
        logits = np.tensordot(x[:count], by_view, axes=1) + x[count] + x[count + 1 :]  # (documents, labels)
        if single_label:
            q = softmax(logits, axis=1)
            nll = -(votes * log_softmax(logits, axis=1)).sum(axis=1)
            slope = q * votes.sum(axis=1, keepdims=True) - votes
        else:
            q = expit(logits)
            nll = (np.logaddexp(0, logits) - votes * logits).sum(axis=1)
            slope = q - votes
        distance = np.sqrt((q - votes) ** 2 + SMALL)
        by_q = l1 * (q - votes) / distance
        slope = slope + q * (by_q - (q * by_q).sum(axis=1, keepdims=True) if single_label else by_q * (1 - q))
        slope = slope * weights[:, None]
        value = (weights * (nll + l1 * distance.sum(axis=1))).sum() + ridge * (x[count + 1 :] ** 2).sum()
        slopes = [(slope * feature).sum() for feature in by_view]
        return value, np.concatenate([slopes, [slope.sum()], slope.sum(axis=0) + 2 * ridge * x[count + 1 :]])

    start = np.concatenate([np.full(count, 1 / count), np.zeros(1 + votes.shape[1])])
    # Views are much alike: free weights would set one against the other.
    bounds = [(0, None)] * count + [(None, None)] * (1 + votes.shape[1])
    x = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return x[:count], float(x[count]), x[count + 1 :]


def _check(views, shape, single_label) -> dict[str, np.ndarray]:
    """Returns the views as arrays of probabilities. Raises ValueError, naming the view, for another shape."""
    if not views:
        raise ValueError("no view to stack: give at least one, name -> probabilities (D, L)")
    checked = {}
    for name, probabilities in views.items():
        try:
            checked[name] = calibration.check_probabilities(probabilities, single_label)
        except ValueError as error:
            raise ValueError(f"view {name}: {error}") from error
        if checked[name].shape != tuple(shape):
            raise ValueError(f"view {name} has shape {checked[name].shape}, not {tuple(shape)}: they must be alike")
    return checked


def _features(checked, single_label, clip):
    """Returns the logits of all views, (D, L, V)."""
    return np.stack([calibration.to_logits(each, single_label, clip) for each in checked.values()], axis=-1)
