"""Linear probes of hidden states (Fig. 7 and 15, row "linear probing" of Tables 2 and 5), on arrays."""

import numpy as np
from scipy.special import xlogy
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse regularisation tried, scikit-learn's C


class ProbeError(ValueError):
    """States and targets do not fit each other, or are too few."""


def probe(
    train_states, train_targets, test_states, single_label=False, share=0.25, strengths=STRENGTHS, folds=5, seed=0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns label probabilities (D, L) on test, and which labels were skipped, bool (L,) (Fig. 7; section 8
    of the digest).

    States are L2-normalised and reduced to `share` of their dimensions by a truncated SVD fitted on train;
    then one regularised logistic regression a label, or one multinomial for single-label sets, strength by
    cross-validated NLL on train. train_states: (N, H); train_targets: (N, L) bool, or vote shares in [0, 1],
    whose NaN rows are left out; test_states: (D, H). Labels of one class on train are skipped and get their
    base rate. Raises ProbeError where shapes differ, a state is not finite, or fewer documents than folds
    remain.
    """
    train_states, test_states = _normalise("train", train_states), _normalise("test", test_states)
    if train_states.shape[1] != test_states.shape[1]:
        raise ProbeError(f"train states have {train_states.shape[1]} dimensions, test states {test_states.shape[1]}")
    targets = np.asarray(train_targets, dtype=float)
    if targets.ndim != 2 or len(targets) != len(train_states):
        raise ProbeError(f"{len(train_states)} train states but targets of shape {targets.shape}")
    kept = ~np.isnan(targets).any(axis=1)
    train_states, targets = train_states[kept], targets[kept]
    _check_targets(targets, folds)
    size = min(max(1, round(share * train_states.shape[1])), len(train_states))
    if size < train_states.shape[1]:
        reduction = TruncatedSVD(size, random_state=seed).fit(train_states)
        train_states, test_states = reduction.transform(train_states), reduction.transform(test_states)
    return fit_logistic(train_states, targets, test_states, single_label, strengths, folds, seed)


def fit_logistic(
    train_features, targets, test_features, single_label=False, strengths=STRENGTHS, folds=5, seed=0, weights=None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities (D, L) of logistic regressions on shares, and the labels skipped, bool (L,).

    Each train document stands with each answer at the weight of its share. One strength a label (one for all
    classes of a single-label set), by cross-validated NLL. Labels of one class get their base rate.
    train_features: (N, K), sparse ones too;
    targets: (N, L) in [0, 1]; test_features: (D, K); weights: (N,) of the documents.
    """
    targets = np.asarray(targets, dtype=float)
    _check_targets(targets, folds)
    weights = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=float)
    rates = np.average(targets, axis=0, weights=weights)
    skipped = (rates <= 0) | (rates >= 1)
    predicted = np.tile(rates, (test_features.shape[0], 1))
    used = np.flatnonzero(~skipped)
    groups = [targets[:, used]] if single_label else [targets[:, [label]] for label in used]
    if not len(used):
        return predicted, skipped
    for group, shares in enumerate(groups):
        classes = shares if single_label else np.hstack([1 - shares, shares])
        strength = _choose(train_features, classes, weights, strengths, folds, seed)
        found = _fit(train_features, classes, weights, strength).predict_proba(test_features)
        if single_label:
            predicted[:, used] = found
        else:
            predicted[:, used[group]] = found[:, 1]
    return predicted, skipped


def _choose(features, classes, weights, strengths, folds, seed):
    """Returns the strength with the lowest cross-validated NLL; folds whose fit part lacks a class are left
    out.
    """
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
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-5)
    return model.fit(features[rows], answers, sample_weight=each[rows, answers])


def _check_targets(targets, folds):
    if targets.size and not ((targets >= 0) & (targets <= 1)).all():
        raise ProbeError("targets must be bool or vote shares in [0, 1], not counts")
    if len(targets) < folds:
        raise ProbeError(f"{len(targets)} train documents with targets are too few for {folds} folds")


def _normalise(name, states):
    states = np.asarray(states, dtype=float)
    if states.ndim != 2 or not np.isfinite(states).all():
        raise ProbeError(f"{name} states must be finite and of shape (D, H); got {states.shape}: drop failed documents")
    return states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
