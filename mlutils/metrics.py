"""Compares predicted label probabilities with the share of annotators who chose each label: arrays in, arrays out.

Scores of documents are (D,) arrays, so that means, intervals and paired differences are formed once, at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy
from sklearn.metrics import f1_score

TIE = 1e-9  # shares such as 3 * (1 / 6) miss 0.5 by rounding; they count as 0.5
CHUNK = 4_000_000  # numbers a bootstrap holds at a time (48 MB with their indices)


@dataclass(frozen=True)
class Metric:
    """How a metric is written, and which way is better."""

    title: str
    unit: str = ""
    lower_is_better: bool = True
    printed: bool = True  # in Tables 2 and 5

    @property
    def best(self) -> str:
        """Returns `min` or `max`: which of several values is the best."""
        return "min" if self.lower_is_better else "max"

    @property
    def heading(self) -> str:
        """Returns what stands over a column: the title, and an arrow to the better side."""
        return f"{self.title} {'↓' if self.lower_is_better else '↑'}"

    @property
    def axis_label(self) -> str:
        """Returns what stands on an axis: title, unit, and which way is better."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit} ({'lower' if self.lower_is_better else 'higher'} is better)"


METRICS = {  # under the names that tables use
    "nll": Metric("NLL", "nats"),
    "l1": Metric("L1"),
    "f1": Metric("Example-F1", lower_is_better=False),
    "corrected_squared_error": Metric("Corrected squared error", printed=False),
}
PRINTED = tuple(name for name, metric in METRICS.items() if metric.printed)


def nll(predicted: ArrayLike, reference: ArrayLike, eps: float = 1e-8) -> np.ndarray:
    """Returns the soft binary cross-entropy of each document, summed over labels, in nats (Tables 2 and 5).

    -sum [H ln q + (1 - H) ln(1 - q)] of predictions q and shares of annotators H (equation 1), both (D, L) in [0, 1];
    predictions are clipped to [eps, 1 - eps]. Returns (D,). Raises ValueError where shapes differ, or a number is
    missing or outside [0, 1].
    """
    predicted, reference = check_pair(predicted, reference)
    q = np.clip(predicted, eps, 1 - eps)
    return -(reference * np.log(q) + (1 - reference) * np.log1p(-q)).sum(axis=1)


def nll_single(predicted: ArrayLike, reference: ArrayLike, eps: float = 1e-8) -> np.ndarray:
    """Returns -sum reference ln predicted of each document in nats, for single-label sets (Tables 2 and 5).

    predicted, reference: (D, L), rows sum to one; predictions are clipped to [eps, 1 - eps]. Returns (D,). Raises
    ValueError as `nll` does, and where a row does not sum to one.
    """
    predicted, reference = check_pair(predicted, reference, single_label=True)
    return -xlogy(reference, np.clip(predicted, eps, 1 - eps)).sum(axis=1)


def l1(predicted: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Returns the absolute difference of each document, summed over labels (Tables 2 and 5).

    predicted, reference: (D, L) in [0, 1]. Returns (D,). Raises ValueError as `nll` does.
    """
    predicted, reference = check_pair(predicted, reference)
    return np.abs(predicted - reference).sum(axis=1)


def example_f1(predicted: ArrayLike, reference: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Returns 2|A n B| / (|A| + |B|) of each document, 1 where both sets are empty (Tables 2 and 5).

    A = labels chosen by at least half of the annotators, B = labels predicted with at least `threshold`.
    predicted, reference: (D, L) in [0, 1]. Returns (D,). Raises ValueError as `nll` does.
    """
    predicted, reference = check_pair(predicted, reference)
    chosen, said = label_set(reference), label_set(predicted, threshold)
    size = chosen.sum(axis=1) + said.sum(axis=1)
    return np.where(size == 0, 1.0, 2 * (chosen & said).sum(axis=1) / np.maximum(size, 1))


def accuracy_single(predicted: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Returns whether each document's most probable label is the majority's: example-F1 of one-element sets.

    Ties: the expected value when ties of either side are broken at random, |A n B| / (|A| |B|) for the sets A, B of
    tied labels, so a uniform prediction scores 1/L. predicted, reference: (D, L). Returns (D,) in [0, 1]. Raises
    ValueError as `nll` does.
    """
    predicted, reference = check_pair(predicted, reference)
    chosen = reference >= reference.max(axis=1, keepdims=True) - TIE
    said = predicted >= predicted.max(axis=1, keepdims=True) - TIE
    return (chosen & said).sum(axis=1) / (chosen.sum(axis=1) * said.sum(axis=1))


def macro_f1(predicted: ArrayLike, reference: ArrayLike, threshold: float = 0.5, single_label: bool = False) -> float:
    """Returns the mean over labels of each label's F1: a number of the whole sample.

    Labels neither chosen nor predicted anywhere are left out of the mean; NaN where that leaves no label. predicted,
    reference: (D, L); in single-label sets the first of tied labels counts. Raises ValueError as `nll` does.
    """
    predicted, reference = check_pair(predicted, reference)
    if single_label:
        chosen, said = (np.eye(array.shape[1], dtype=bool)[array.argmax(axis=1)] for array in (reference, predicted))
    else:
        chosen, said = label_set(reference), label_set(predicted, threshold)
    used = (chosen | said).any(axis=0)
    if not used.any():
        return float("nan")
    return float(f1_score(chosen[:, used], said[:, used], average="macro", zero_division=0))


def corrected_squared_error(predicted: ArrayLike, votes: ArrayLike, annotators: ArrayLike) -> np.ndarray:
    """Returns sum_l (q - H)^2 - H (1 - H) / (n - 1), unbiased for the squared distance to the true shares.

    Ours, not the paper's. predicted q, votes H: (D, L) in [0, 1]; annotators n: (D,). Returns (D,), below zero at times
    and NaN for a document of fewer than two annotators, whose noise cannot be estimated: drop those before averaging.
    Where documents were chosen by their votes it is biased for all methods alike; read it beside the noise floor's.
    Raises ValueError as `nll` does.
    """
    predicted, votes = check_pair(predicted, votes)
    annotators = np.asarray(annotators)
    if annotators.shape != votes.shape[:1]:
        raise ValueError(f"annotators must have shape {votes.shape[:1]}, one number a document; got {annotators.shape}")
    n = np.where(annotators >= 2, annotators, np.nan)[:, None]
    return ((predicted - votes) ** 2 - votes * (1 - votes) / (n - 1)).sum(axis=1)


def label_set(probabilities: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Returns which labels reach the threshold, bool (D, L); one half counts whatever its rounding."""
    return np.asarray(probabilities, dtype=float) >= threshold - TIE


def bootstrap(
    values: ArrayLike, resamples: int = 10_000, seed: int = 0, clusters: ArrayLike | None = None
) -> tuple[float, float, float]:
    """Returns the mean over documents and its 95 % percentile bootstrap interval.

    values: (D,). clusters: (D,) what documents belong to; whole clusters are resampled then, for documents that have
    something in common are not independent. Returns (mean, low, high); low and high are NaN for one document or
    cluster. Raises ValueError for no documents, a missing value, or another number of clusters than of values.
    """
    values = _values(values)
    mean, sizes = float(values.mean()), None
    if clusters is not None:
        if np.shape(clusters) != values.shape:
            raise ValueError(f"clusters must have shape {values.shape}, one a document; got {np.shape(clusters)}")
        _, clusters, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
        values = np.bincount(clusters, values)
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    low, high = np.quantile(_resampled_means(values, resamples, seed, sizes), [0.025, 0.975])
    return mean, float(low), float(high)


def resample(documents: int, resamples: int = 10_000, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields the documents that each resample draws, with replacement: int32 (some resamples, D), bounded in size.

    Intervals that take their draws here (`bootstrap`, `paired_difference` and others) are of the same resamples for one
    seed. Ratios of sums over documents draw by themselves (`readouts.intervals.pool`, `readouts.changes.compare`).
    """
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK // documents)
    for start in range(0, resamples, size):
        yield rng.integers(documents, size=(min(size, resamples - start), documents), dtype=np.int32)


def resample_counts(documents: int, resamples: int = 10_000, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields how often each resample of `resample` draws each document: int (some resamples, D)."""
    for picked in resample(documents, resamples, seed):
        flat = picked + documents * np.arange(len(picked))[:, None]
        yield np.bincount(flat.ravel(), minlength=flat.size).reshape(flat.shape)


def paired_difference(
    values_a: ArrayLike, values_b: ArrayLike, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Returns the mean of a - b over the same documents, its 95 % interval, and a two-sided p-value.

    values_a, values_b: (D,). The p-value is twice the share of resampled means on the far side of zero, at least
    2 / (resamples + 1). Returns (mean, low, high, p); the last three are NaN for one document. Raises ValueError where
    lengths differ, and as `bootstrap` does.
    """
    values_a, values_b = _values(values_a), _values(values_b)
    if values_a.shape != values_b.shape:
        raise ValueError(f"paired values must be of the same documents; got {len(values_a)} and {len(values_b)}")
    difference = values_a - values_b
    if len(difference) == 1:
        return float(difference[0]), float("nan"), float("nan"), float("nan")
    means = _resampled_means(difference, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    far_side = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (far_side + 1) / (resamples + 1))
    return float(difference.mean()), float(low), float(high), float(p)


def _resampled_means(values, resamples, seed, sizes=None):
    """Returns the mean of each resample, (resamples,); values are sums over clusters where `sizes` are given."""
    draws = resample(len(values), resamples, seed)
    if sizes is None:
        return np.concatenate([values[picked].mean(axis=1) for picked in draws])
    return np.concatenate([values[picked].sum(axis=1) / sizes[picked].sum(axis=1) for picked in draws])


def _values(values):
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be one number a document and at least one document; got shape {values.shape}")
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values))
        raise ValueError(f"{rows.size} values are missing or infinite (first rows {rows[:5].tolist()}): drop those")
    return values


def check_pair(predicted: ArrayLike, reference: ArrayLike, single_label: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as arrays (D, L) in [0, 1], in single-label sets of rows that sum to one.

    Raises ValueError where shapes differ, a number is missing or out of range, or a row does not sum to one.
    """
    predicted, reference = np.asarray(predicted, dtype=float), np.asarray(reference, dtype=float)
    if predicted.ndim != 2 or predicted.shape != reference.shape:
        raise ValueError(
            f"predicted and reference must both have shape (D, L); got {predicted.shape}, {reference.shape}"
        )
    for name, array in (("predicted", predicted), ("reference", reference)):
        # Written so that NaN fails too.
        rows = np.flatnonzero(~((array >= -TIE) & (array <= 1 + TIE)).all(axis=1))
        if rows.size:
            raise ValueError(
                f"{name} is missing or outside [0, 1] in {rows.size} rows (first {rows[:5].tolist()}): "
                "keep the documents with votes (Corpus.has_votes) and check the method"
            )
    for name, array in (("predicted", predicted), ("reference", reference)) if single_label else ():
        rows = find_unnormalised(array)
        if rows.size:
            raise ValueError(
                f"{name} must sum to one over the labels of a single-label set; row {rows[0]} sums to "
                f"{array[rows[0]].sum():.4f} ({rows.size} such rows): use the method's single-label form"
            )
    return predicted, reference


def find_unnormalised(probabilities: np.ndarray) -> np.ndarray:
    """Returns the rows (N,) of probabilities (D, L) that do not sum to one."""
    return np.flatnonzero(np.abs(probabilities.sum(axis=1) - 1) > 1e-4)
