"""Logistic regressions on vote shares, on words or on states: what probes, TF-IDF and frozen encoders share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse, spmatrix
from scipy.special import xlogy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse regularisation tried, scikit-learn's C
FOLDS = 5
TUNED = 4_000  # documents, at most, on which the strength is chosen


def fit_logistic(
    train_features: np.ndarray | spmatrix,
    targets: ArrayLike,
    test_features: np.ndarray | spmatrix,
    single_label: bool = False,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities (D, L) of logistic regressions on shares, and the labels skipped, bool (L,).

    Each train document stands with each answer at the weight of its share. One strength a label (one for all classes
    of a single-label set), by cross-validated NLL on at most TUNED documents. Labels of one class get
    their base rate. train_features: (N, K), sparse ones too; targets: (N, L) in [0, 1]; test_features: (D, K);
    weights: (N,) of the documents. Raises ValueError for targets outside [0, 1] and for fewer documents than folds.
    """
    targets = np.asarray(targets, dtype=float)
    check_targets(targets, folds)
    weights = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=float)
    rates = np.average(targets, axis=0, weights=weights)
    skipped = (rates <= 0) | (rates >= 1)
    predicted = np.tile(rates, (test_features.shape[0], 1))
    used = np.flatnonzero(~skipped)
    if not len(used):
        return predicted, skipped
    tuned = np.sort(np.random.default_rng(seed).permutation(len(targets))[:TUNED])
    for labels in [used] if single_label else used[:, None]:
        classes = targets[:, labels] if single_label else np.hstack([1 - targets[:, labels], targets[:, labels]])
        strength = _choose(train_features[tuned], classes[tuned], weights[tuned], strengths, folds, seed)
        found = _fit(train_features, classes, weights, strength).predict_proba(test_features)
        predicted[:, labels] = found if single_label else found[:, 1:]
    return predicted, skipped


def check_targets(targets: np.ndarray, folds: int) -> None:
    """Raises ValueError where targets are no shares, or fewer than folds."""
    if targets.size and not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError("targets must be bool or vote shares in [0, 1], not counts")
    if len(targets) < folds:
        raise ValueError(f"{len(targets)} train documents with votes are too few for {folds} folds")


def _choose(features, classes, weights, strengths, folds, seed):
    """Returns the strength with the lowest cross-validated NLL; folds whose fit part lacks a class are left out."""
    if len(strengths) == 1:
        return strengths[0]
    losses = np.zeros(len(strengths))
    for fit, held_out in KFold(folds, shuffle=True, random_state=seed).split(features):
        if (classes[fit].T @ weights[fit] <= 0).any():
            continue
        for i, strength in enumerate(strengths):
            q = _fit(features[fit], classes[fit], weights[fit], strength).predict_proba(features[held_out])
            losses[i] -= (weights[held_out, None] * xlogy(classes[held_out], np.clip(q, 1e-8, 1))).sum()
    return strengths[int(losses.argmin())]


def _fit(features, classes, weights, strength):
    """Fits a regression in which document d stands with class c at weight weights[d] * classes[d, c]."""
    each = weights[:, None] * classes
    rows, answers = np.nonzero(each > 0)
    # The default tolerance is one of the mean loss and stops early: 0.1 nats too soon on MFRC with TF-IDF at 1e-3.
    # Of dense features there are few (states), and Newton's method needs a handful of steps.
    solver = "lbfgs" if issparse(features) or features.shape[1] > 1000 else "newton-cholesky"
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-5, solver=solver)
    return model.fit(features[rows], answers, sample_weight=each[rows, answers])
