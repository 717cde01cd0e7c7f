"""Numbers of label steps with 95 % intervals over documents: means, medians, pooled shares, areas under a curve."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import binomtest, quantile_test, rankdata

from mlutils import metrics

RESAMPLES, WORK = 10_000, 20_000_000  # of a bootstrap, and the numbers it may draw


def mean(values: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """Returns the mean of documents (D,) and its 95 % interval; yes and no (bool) are shares, as in `pool`."""
    values = np.asarray(values)
    if values.dtype == bool or not len(values):
        return pool(values, np.arange(len(values)), seed)
    # As many resamples as elsewhere, but fewer for large traces: their intervals are narrow, and there are many.
    return metrics.bootstrap(values, int(np.clip(WORK // len(values), 1_000, RESAMPLES)), seed)


def median(values: ArrayLike) -> tuple[float, float, float]:
    """Returns the median of documents (D,) and its exact 95 % interval; NaN ends for fewer than six."""
    values = np.asarray(values, float)
    if not len(values):
        return np.nan, np.nan, np.nan
    low, high = quantile_test(values, p=0.5).confidence_interval(0.95)
    return float(np.median(values)), float(low), float(high)


def pool(values: ArrayLike, documents: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """Returns a share of N steps and its 95 % interval from resampling documents with all their steps.

    values: bool (N,); documents: (N,). NaN without a step, NaN ends for one document. Where all values are equal, a
    bootstrap would end at the share itself: the exact binomial interval over documents stands in for it.
    """
    if not len(values):
        return np.nan, np.nan, np.nan
    codes = pd.factorize(np.asarray(documents))[0]
    pairs = np.column_stack([np.bincount(codes, weights=np.asarray(values, float)), np.bincount(codes)])  # (D, 2)
    share = float(pairs[:, 0].sum() / pairs[:, 1].sum())
    if len(pairs) == 1:
        return share, np.nan, np.nan
    if share in (0, 1):  # every resample is the same: the exact interval of as many documents as trials
        low, high = binomtest(round(share * len(pairs)), len(pairs)).proportion_ci(0.95)
        return share, float(low), float(high)
    # Documents with equal counts are interchangeable: how often a resample holds each kind is a multinomial draw.
    kinds, numbers = np.unique(pairs, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(pairs), numbers / len(pairs), RESAMPLES) @ kinds
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    return share, float(low), float(high)


def separation(last: ArrayLike, intermediate: ArrayLike) -> tuple[float, float, float]:
    """Returns how well a number tells last from intermediate steps: the area under the ROC curve, folded to 0.5 (not at
    all) ... 1, with DeLong's 95 % interval.

    last (M,), intermediate (N,): one step a document. NaN where a group has fewer than two steps (C3).
    """
    last, intermediate = np.asarray(last, float), np.asarray(intermediate, float)
    m, n = len(last), len(intermediate)
    if min(m, n) < 2:
        return np.nan, np.nan, np.nan
    joined = rankdata(np.concatenate([last, intermediate]))  # (M + N,)
    above = (joined[:m] - rankdata(last)) / n  # (M,): share of intermediate steps below each last one, ties by half
    below = 1 - (joined[m:] - rankdata(intermediate)) / m  # (N,)
    area, reach = above.mean(), ndtri(0.975) * np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    low, high = max(area - reach, 0), min(area + reach, 1)
    ends = sorted([max(low, 1 - low), max(high, 1 - high)])
    return float(max(area, 1 - area)), 0.5 if low < 0.5 < high else float(ends[0]), float(ends[1])
