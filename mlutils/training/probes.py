"""Linear probes of hidden states (Fig. 7 and 15, row "linear probing" of Tables 2 and 5), on arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import StandardScaler

from mlutils.training.logistic import FOLDS, STRENGTHS, check_targets, fit_logistic


class ProbeError(ValueError):
    """States and targets do not fit each other, or are too few."""


def probe(
    train_states: ArrayLike,
    train_targets: ArrayLike,
    test_states: ArrayLike,
    single_label: bool = False,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    conventions: str = "ours",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns label probabilities (D, L) on test, and which labels were skipped, bool (L,) (Fig. 7).

    States are L2-normalised and reduced to a quarter of their dimensions by a truncated SVD fitted on train; then one
    regularised logistic regression a label, or one multinomial for single-label sets, strength by cross-validated NLL
    on train. `conventions="released"` does as the code of the paper: of train a random fifth is held back, features are
    divided by their deviation, the SVD keeps a quarter of the dimensions but at least 512, nothing is regularised.
    train_states: (N, H); train_targets: (N, L) bool, or vote shares in [0, 1], whose NaN rows are left out;
    test_states: (D, H). Labels of one class on train are skipped and get their base rate. Raises ProbeError where
    shapes differ, a state is not finite, or fewer documents than folds remain.
    """
    train_states, test_states = _finite("train", train_states), _finite("test", test_states)
    if train_states.shape[1] != test_states.shape[1]:
        raise ProbeError(f"train states have {train_states.shape[1]} dimensions, test states {test_states.shape[1]}")
    targets = np.asarray(train_targets, dtype=float)
    if targets.ndim != 2 or len(targets) != len(train_states):
        raise ProbeError(f"{len(train_states)} train states but targets of shape {targets.shape}")
    kept = np.flatnonzero(~np.isnan(targets).any(axis=1))
    dimensions = round(train_states.shape[1] / 4)
    if conventions == "released":
        kept = np.random.default_rng(seed).permutation(kept)[: round(0.8 * len(kept))]
        scaler = StandardScaler(with_mean=False).fit(train_states[kept])
        train_states, test_states = scaler.transform(train_states), scaler.transform(test_states)
        dimensions, strengths = max(dimensions, 512), (np.inf,)
    elif conventions == "ours":
        train_states, test_states = _normalise(train_states), _normalise(test_states)
    else:
        raise ProbeError(f"conventions {conventions!r} are not known: take ours or released")
    train_states, targets = train_states[kept], targets[kept]
    try:
        check_targets(targets, FOLDS)
    except ValueError as error:
        raise ProbeError(str(error)) from error
    size = min(max(1, dimensions), len(train_states))
    if size < train_states.shape[1]:
        reduction = TruncatedSVD(size, random_state=seed).fit(train_states)
        train_states, test_states = reduction.transform(train_states), reduction.transform(test_states)
    return fit_logistic(train_states, targets, test_states, single_label, strengths, seed=seed)


def _finite(name, states):
    states = np.asarray(states, dtype=float)
    if states.ndim != 2 or not np.isfinite(states).all():
        raise ProbeError(f"{name} states must be finite and of shape (D, H); got {states.shape}: drop failed documents")
    return states


def _normalise(states):
    return states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
