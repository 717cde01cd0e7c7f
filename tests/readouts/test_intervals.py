"""Intervals over documents."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlutils.readouts import intervals


def test_pooled_shares_resample_documents_with_all_their_steps():
    values, documents = [1, 1, 1, 0], ["a", "a", "a", "b"]
    assert intervals.pool(values, documents) == (0.75, 0, 1)  # a sample of a, a or of b, b is likely
    assert intervals.pool([], [])[0] != intervals.pool([], [])[0]
    assert np.isnan(intervals.pool([1, 0], ["a", "a"])[1:]).all()
    none = intervals.pool([0] * 6, ["a", "b", "c"] * 2)  # all equal: 1 - 0.025 ** (1 / 3) of three documents
    assert none == pytest.approx((0, 0, 1 - 0.025 ** (1 / 3)))
    rng = np.random.default_rng(0)
    each = rng.random(400) < 0.3
    mean, low, high = intervals.pool(each, np.arange(400))
    deviation = np.sqrt(0.3 * 0.7 / 400)
    assert mean == each.mean() and high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    repeated = intervals.pool(np.repeat(each, 5), np.repeat(np.arange(400), 5))
    assert repeated == pytest.approx((mean, low, high))  # five equal steps a document are no more evidence


def test_the_area_is_scikit_learns_folded_and_delong_is_near_the_bootstrap():
    rng = np.random.default_rng(1)
    last, going = rng.normal(0, 1, 60).round(1), rng.normal(0.8, 1, 50).round(1)
    area, low, high = intervals.separation(last, going)
    truth, scores = np.r_[np.ones(60), np.zeros(50)], np.r_[last, going]
    assert area == pytest.approx(1 - roc_auc_score(truth, scores)) and low < area < high
    draws = [roc_auc_score(1 - truth, np.r_[rng.choice(last, 60), rng.choice(going, 50)]) for _ in range(400)]
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)
    assert intervals.separation(last, last)[:2] == (0.5, 0.5)
    assert intervals.separation([1, 2], [3, 4])[0] == 1 and np.isnan(intervals.separation([1], [2, 3])[0])
