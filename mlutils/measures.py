"""Further measures of the field, beside the metrics of Tables 2 and 5: arrays in, arrays out.

A multi-label set is L distributions over yes and no, and a measure is their mean; a single-label set is one over the
labels. A measure of documents returns a score each, (D,). One of the whole sample is no mean over documents: it is told
how often each document counts in each resample, (R, D), so that its bootstrap is a product of matrices.

Many of these are the same ranking in other units: DistCE and the Manhattan distance are L1, scaled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, rel_entr

from mlutils.metrics import TIE, Metric, accuracy_single, check_pair, example_f1

BINS = 10  # of equal width, closed above, of the calibration error


@dataclass(frozen=True)
class Measure(Metric):
    """A metric that the page folds away, with its function.

    function: of documents, f(predicted, votes, single_label) -> (D,); of a `whole` sample, f(predicted, votes,
    annotators, single_label, counts) -> (R,). One without a function is the measure that it `corrects`, divided by the
    noise floor's.
    """

    printed: bool = False
    function: Callable | None = None
    whole: bool = False
    corrects: str = ""


def measure(
    name: str, predicted: ArrayLike, votes: ArrayLike, annotators: ArrayLike, single_label: bool, counts: np.ndarray
) -> np.ndarray:
    """Returns a measure of the sample, once for each row of counts, (R,).

    predicted, votes: (D, L) in [0, 1]; annotators: (D,); counts: (R, D), how often each document counts. Raises
    ValueError as `metrics.check_pair` does.
    """
    each = MEASURES[name]
    if each.whole:
        return each.function(predicted, votes, annotators, single_label, counts)
    return counts @ each.function(predicted, votes, single_label) / counts.sum(axis=1)


# -- of documents ------------------------------------------------------------------------------------------------------
def jensen_shannon_divergence(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns the Jensen-Shannon divergence of each document in bits, 0 to 1, mean over labels; (D,).

    One minus it is the PO-JSD of Kurniawan et al. (2026).
    """
    return _divergences(predicted, votes, single_label).mean(axis=1)


def jensen_shannon_distance(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns the square root of the Jensen-Shannon divergence (bits) of each label, mean over labels; (D,)."""
    return np.sqrt(_divergences(predicted, votes, single_label)).mean(axis=1)


def _divergences(predicted, votes, single_label):
    """Returns the divergence of each distribution, (D, P)."""
    p, h = _distributions(predicted, votes, single_label)
    middle = np.maximum((p + h) / 2, np.finfo(float).tiny)  # half of the smallest number is zero
    bits = (rel_entr(p, middle) + rel_entr(h, middle)).sum(axis=2) / (2 * np.log(2))
    return np.maximum(bits, 0)  # of equal distributions it is below zero by rounding


def total_variation(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns the total variation distance of each document, mean over labels; (D,): DistCE of Baan et al. (2022)."""
    return manhattan(predicted, votes, single_label) / 2


def manhattan(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns the Manhattan distance of each document's distributions, mean over labels; (D,): LeWiDi 2025."""
    p, h = _distributions(predicted, votes, single_label)
    return np.abs(p - h).sum(axis=2).mean(axis=1)


def rank_agreement(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns whether each document's labels are ranked as annotators rank them; (D,): RankCS of Baan et al. (2022).

    Labels that equally many chose may stand in any order, as with few annotators most are tied: a document whose labels
    are all tied is always ranked right. A predicted tie of labels that annotators tell apart is wrong.
    """
    predicted, votes = check_pair(predicted, votes, single_label)
    above = votes[:, :, None] - votes[:, None, :] > TIE
    said = predicted[:, :, None] > predicted[:, None, :]
    return (said | ~above).all(axis=(1, 2)).astype(float)


def entropy_error(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns |H(predicted) - H(votes)| of each document in nats, mean over labels; (D,): EntCE, Baan et al. (2022)."""
    p, h = _distributions(predicted, votes, single_label)
    return np.abs(entr(p).sum(axis=2) - entr(h).sum(axis=2)).mean(axis=1)


def brier(predicted: ArrayLike, votes: ArrayLike, single_label: bool = False) -> np.ndarray:
    """Returns the Brier score of each document, every annotator's vote an outcome; (D,).

    (q - H)^2 + H (1 - H), mean over the labels of a multi-label set, sum over those of a single-label set.
    """
    predicted, votes = check_pair(predicted, votes, single_label)
    scores = (predicted - votes) ** 2 + votes * (1 - votes)
    return scores.sum(axis=1) if single_label else scores.mean(axis=1)


# -- of the whole sample -----------------------------------------------------------------------------------------------
def soft_micro_f1(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns 2 sum min(q, H) / sum (q + H) over documents and labels; (R,): soft micro F1 of Kurniawan et al. (2026).

    NaN where nothing is chosen or predicted.
    """
    predicted, votes = check_pair(predicted, votes, single_label)
    return _divide(2 * counts @ np.minimum(predicted, votes).sum(axis=1), counts @ (predicted + votes).sum(axis=1))


def soft_macro_f1(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns the mean over labels of each label's soft F1; (R,). Labels neither chosen nor predicted are left out."""
    predicted, votes = check_pair(predicted, votes, single_label)
    return _mean_known(_divide(2 * counts @ np.minimum(predicted, votes), counts @ (predicted + votes)))


def entropy_correlation(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns Pearson's correlation over documents of the entropies of predictions and votes, mean over labels; (R,).

    Labels with one entropy throughout, on either side, are left out; NaN where that leaves none, as for constants. A
    few votes tell little of a document's entropy: a perfect predictor's correlation is the attenuation.
    """
    p, h = (entr(each).sum(axis=2) for each in _distributions(predicted, votes, single_label))
    p, h = p - p.mean(axis=0), h - h.mean(axis=0)
    n = counts.sum(axis=1, keepdims=True)

    def covary(a, b):
        return counts @ (a * b) / n - (counts @ a / n) * (counts @ b / n)

    spreads = covary(p, p), covary(h, h)
    known = (spreads[0] > TIE**2) & (spreads[1] > TIE**2)
    return _mean_known(_divide(covary(p, h), np.where(known, np.sqrt(np.abs(spreads[0] * spreads[1])), 0)))


def calibration_error(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns the expected calibration error; (R,): |mean probability - share of annotators|, over BINS of probability.

    Of all labels of a multi-label set together, of the most probable one in a single-label set.
    """
    q, h, into = _binned(predicted, votes, single_label)
    return np.abs(counts @ into(q - h)).sum(axis=1) / (counts.sum(axis=1) * q.shape[1])


def calibration_by_chance(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns the calibration error to expect if the predictions were right, from drawing annotators alone; (R,).

    sqrt(2 / pi) x the standard deviation of each bin's gap: votes are as many independent draws as annotators. Where
    documents were chosen by their votes, right predictions have a larger error; the noise floor's holds that, too.
    """
    q, _, into = _binned(predicted, votes, single_label)
    variances = into(q * (1 - q) / np.asarray(annotators)[:, None])
    return np.sqrt(2 / np.pi * (counts @ variances)).sum(axis=1) / (counts.sum(axis=1) * q.shape[1])


def risk_coverage(predicted, votes, annotators, single_label: bool, counts: np.ndarray) -> np.ndarray:
    """Returns the area under the risk-coverage curve; (R,): the mean risk of the k most confident documents, over k.

    Risk is 1 - example-F1 (accuracy). Confidence is the largest probability; in multi-label sets the mean over labels
    of the larger of q and 1 - q. Documents of one confidence come in random order.
    """
    predicted, votes = check_pair(predicted, votes, single_label)
    confidence = predicted.max(axis=1) if single_label else np.maximum(predicted, 1 - predicted).mean(axis=1)
    risk = 1 - (accuracy_single if single_label else example_f1)(predicted, votes)
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=np.inf))
    counts = counts[:, order]
    tied = np.add.reduceat(counts, starts, axis=1)  # (R, groups of one confidence)
    risks = np.add.reduceat(counts * risk[order], starts, axis=1)
    before, risks_before = tied.cumsum(axis=1) - tied, risks.cumsum(axis=1) - risks
    largest = int(counts.sum(axis=1).max())
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, largest + 1))])
    # sum over j = 1 ... tied of 1 / (before + j); the j-th of a group adds the group's mean risk.
    places = harmonic[(before + tied).astype(int)] - harmonic[before.astype(int)]
    areas = risks_before * places + risks / np.maximum(tied, 1) * (tied - before * places)
    return areas.sum(axis=1) / counts.sum(axis=1)


# -- shared ------------------------------------------------------------------------------------------------------------
def _distributions(predicted, votes, single_label):
    """Returns both as distributions: (D, L, 2) of yes and no, or (D, 1, L)."""
    pair = (np.clip(each, 0, 1) for each in check_pair(predicted, votes, single_label))
    return tuple(each[:, None] if single_label else np.stack([each, 1 - each], axis=2) for each in pair)


def _binned(predicted, votes, single_label):
    """Returns probabilities and shares (D, K) that calibration is about, and what sums (D, K) into bins, (D, BINS)."""
    q, h = check_pair(predicted, votes, single_label)
    if single_label:
        top = q.argmax(axis=1)[:, None]
        q, h = np.take_along_axis(q, top, axis=1), np.take_along_axis(h, top, axis=1)
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], q)  # (D, K)

    def into(values):
        summed = np.zeros((len(values), BINS))
        np.add.at(summed, (np.arange(len(values))[:, None], bins), values)
        return summed

    return q, h, into


def _divide(above, below):
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def _mean_known(values):
    """Returns the mean over labels (R, P) of those that are known; NaN where none is."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


MEASURES = {  # under the names that tables use
    "js_distance": Measure("Jensen-Shannon distance", function=jensen_shannon_distance),
    "js_divergence": Measure("Jensen-Shannon divergence", "bits", function=jensen_shannon_divergence),
    "dist_ce": Measure("DistCE", function=total_variation),
    "manhattan": Measure("Manhattan distance", function=manhattan),
    "brier": Measure("Brier score", function=brier),
    "soft_micro_f1": Measure("Soft micro F1", lower_is_better=False, function=soft_micro_f1, whole=True),
    "soft_macro_f1": Measure("Soft macro F1", lower_is_better=False, function=soft_macro_f1, whole=True),
    "rank_cs": Measure("RankCS", lower_is_better=False, function=rank_agreement),
    "ent_ce": Measure("EntCE", "nats", function=entropy_error),
    "entropy_correlation": Measure(
        "Entropy correlation", lower_is_better=False, function=entropy_correlation, whole=True
    ),
    "entropy_correlation_corrected": Measure(
        "Entropy correlation, corrected", lower_is_better=False, whole=True, corrects="entropy_correlation"
    ),
    "ece": Measure("Calibration error", function=calibration_error, whole=True),
    "ece_by_chance": Measure("Calibration error by chance", function=calibration_by_chance, whole=True),
    "aurc": Measure("Area under risk-coverage", function=risk_coverage, whole=True),
}
