"""Stacking: one ridge-logistic model on soft votes that combines several views of the same documents (section 7).

A view's feature is the logit of its probability for a document and label (log probability in single-label sets, with
a softmax over the classes: a conditional logit). All labels share one weight a view; each label has an offset of its
own. One ridge holds weights and offsets; cross-validation within the fitted documents chooses its strength.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlutils.readouts import calibration

RIDGES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


@dataclass(frozen=True)
class Stack:
    """A fitted stack: a weight a view, a shared offset and one a label."""

    views: tuple[str, ...]
    weights: np.ndarray  # (V,)
    offset: float
    offsets: np.ndarray  # (L,)
    single_label: bool
    ridge: float
    documents: int  # with votes, fitted on


def fit_stack(views: Mapping[str, np.ndarray], votes, single_label=False, ridges=RIDGES, folds=5, seed=0) -> Stack:
    """Returns the stack fitted on documents with votes, with the ridge of the lowest cross-validated NLL.

    views: name -> probabilities (D, L); votes: (D, L), rows of NaN are left out. Raises ValueError where no view is
    given, a view is NaN somewhere or of another shape, votes hold no positive, or documents are fewer than folds.
    """
    if not views:
        raise ValueError("no view to stack: give at least one, name -> probabilities (D, L)")
    kept = {}
    for name, probabilities in views.items():
        try:
            kept[name], known = calibration.with_votes(probabilities, votes, single_label)
        except ValueError as error:
            raise ValueError(f"view {name}: {error}") from error
    features = _features(kept, single_label)
    ridge = calibration.choose_ridge(features, known, single_label, None, ridges, folds, seed)
    weights, offset, offsets = calibration.fit_logistic(features, known, single_label, ridge, ridge)
    return Stack(tuple(views), weights, offset, offsets, single_label, ridge, len(known))


def apply(stack: Stack, views: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the stack's probabilities, (D, L). Raises ValueError where the views are not those it was fitted on."""
    if set(views) != set(stack.views):
        raise ValueError(f"the stack was fitted on views {list(stack.views)}; got {list(views)}")
    checked = {}
    for name in stack.views:
        checked[name] = calibration.check_probabilities(views[name], stack.single_label)
        if checked[name].shape != (len(checked[stack.views[0]]), len(stack.offsets)):
            raise ValueError(f"view {name} has shape {checked[name].shape}: {len(stack.offsets)} labels were fitted")
    logits = _features(checked, stack.single_label) @ stack.weights + stack.offset + stack.offsets
    return calibration.to_probabilities(logits, stack.single_label)


def cross_fit(views: Mapping[str, np.ndarray], votes, folds=5, seed=0, **options) -> np.ndarray:
    """Returns stacked probabilities, (D, L), each document's by a stack fitted on other documents only.

    The ridge is chosen anew within each fold's fitted documents (nested cross-validation). For test documents, and to
    be marked as such. `options` as in `fit_stack`. Raises ValueError as `fit_stack` does, on any fold.
    """
    votes = np.asarray(votes, float)
    views = {name: np.asarray(probabilities, float) for name, probabilities in views.items()}
    for name, probabilities in views.items():
        if probabilities.shape != votes.shape:
            raise ValueError(f"view {name} has shape {probabilities.shape} and votes {votes.shape}: they must be alike")

    def predict(fitted, held):
        stack = fit_stack({name: p[fitted] for name, p in views.items()}, votes[fitted], seed=seed, **options)
        return apply(stack, {name: p[held] for name, p in views.items()})

    return calibration.predict_held_out(predict, *votes.shape, folds, seed)


def _features(views, single_label):
    """Returns the logits of all views, (D, L, V)."""
    return np.stack([calibration.to_logits(probabilities, single_label) for probabilities in views.values()], axis=-1)
