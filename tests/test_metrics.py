import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlutils import metrics

LN = math.log


def shares(documents=4, labels=3):
    return arrays(float, (documents, labels), elements=st.floats(0, 1))


def test_nll_by_hand():
    value = metrics.nll([[0.5, 0.25]], [[1.0, 1 / 3]])
    assert value == pytest.approx([LN(2) + LN(4) / 3 + 2 / 3 * LN(4 / 3)])
    assert metrics.nll([[0.0]], [[1.0]]) == pytest.approx([-LN(1e-8)])
    assert metrics.nll([[1.0]], [[0.0]]) == pytest.approx([-LN(1e-8)])
    assert metrics.nll([[0.0]], [[1.0]], eps=1e-3) == pytest.approx([-LN(1e-3)])


def test_nll_single_by_hand():
    value = metrics.nll_single([[0.5, 0.25, 0.25]], [[2 / 3, 1 / 3, 0.0]])
    assert value == pytest.approx([2 / 3 * LN(2) + LN(4) / 3])
    assert metrics.nll_single([[1.0, 0.0]], [[0.5, 0.5]]) == pytest.approx([-LN(1e-8) / 2])
    with pytest.raises(ValueError, match="sum to one"):
        metrics.nll_single([[0.9, 0.9]], [[1.0, 0.0]])


def test_l1_by_hand():
    assert metrics.l1([[1.0, 0.25]], [[1 / 3, 0.5]]) == pytest.approx([2 / 3 + 1 / 4])


def test_example_f1_by_hand():
    votes = np.array([[1.0, 2 / 3, 1 / 3], [0.0, 1 / 3, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    predicted = np.array([[0.9, 0.1, 0.6], [0.1, 0.2, 0.3], [0.0, 0.0, 0.0], [0.5, 0.5, 0.49]])
    assert metrics.example_f1(predicted, votes) == pytest.approx([2 * 1 / 4, 1.0, 0.0, 1.0])
    assert metrics.example_f1(predicted, votes, threshold=0.05)[0] == pytest.approx(2 * 2 / 5)


def test_half_of_the_annotators_counts_whatever_the_rounding():
    below = 0.5 - 1e-12  # a share of one half that lost its last digits
    assert metrics.example_f1([[1.0]], [[below]]) == pytest.approx([1.0])
    assert metrics.accuracy_single([[1.0, 0.0]], [[below, 0.5]]) == pytest.approx([0.5])


def test_accuracy_single_shares_credit_between_ties():
    third = 1 / 3
    predicted = [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [third, third, third], [0.6, 0.3, 0.1]]
    reference = [[2 / 3, third, 0], [2 / 3, third, 0], [1, 0, 0], [third, third, third]]
    assert metrics.accuracy_single(predicted, reference) == pytest.approx([1, 0, third, third])


def test_macro_f1_by_hand():
    votes = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    predicted = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    # label 0: precision 1, recall 1/2; label 1: precision 1/2, recall 1; label 2 never occurs
    assert metrics.macro_f1(predicted, votes) == pytest.approx(2 / 3)
    assert math.isnan(metrics.macro_f1(votes * 0, votes * 0))
    single = metrics.macro_f1([[0.9, 0.1], [0.6, 0.4]], [[1.0, 0.0], [0.0, 1.0]], single_label=True)
    assert single == pytest.approx((2 / 3 + 0) / 2)


def test_corrected_squared_error_by_hand():
    value = metrics.corrected_squared_error([[0.5, 0.0]] * 2, [[1 / 3, 0.0], [1.0, 0.0]], [3, 1])
    assert value[0] == pytest.approx((1 / 6) ** 2 - (1 / 3) * (2 / 3) / 2)
    assert math.isnan(value[1])  # one annotator says nothing about the noise


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 6))
def test_corrected_squared_error_is_unbiased(predicted, truth, annotators):
    k = np.arange(annotators + 1)
    outcomes = np.array([math.comb(annotators, i) * truth**i * (1 - truth) ** (annotators - i) for i in k])
    scores = metrics.corrected_squared_error(
        np.full((len(k), 1), predicted), (k / annotators)[:, None], np.full(len(k), annotators)
    )
    assert outcomes @ scores == pytest.approx((predicted - truth) ** 2, abs=1e-9)


@given(shares(), arrays(bool, (4, 3)))
def test_hard_predictions_satisfy_the_papers_identity(votes, said):
    predicted = np.where(said, 1 - 1e-8, 1e-8)
    assert metrics.nll(predicted, votes) == pytest.approx(-LN(1e-8) * metrics.l1(predicted, votes), abs=1e-5)


@given(shares(), shares())
def test_metrics_are_not_negative_and_bounded(predicted, votes):
    assert (metrics.nll(predicted, votes) >= 0).all()
    assert (metrics.l1(predicted, votes) >= 0).all()
    assert (metrics.l1(predicted, votes) == metrics.l1(votes, predicted)).all()
    f1 = metrics.example_f1(predicted, votes)
    equal = (metrics.label_set(predicted) == metrics.label_set(votes)).all(axis=1)
    assert ((f1 >= 0) & (f1 <= 1)).all()
    assert ((f1 == 1) == equal).all()


@given(shares(), shares())
def test_nll_is_smallest_at_the_reference(predicted, votes):
    assert (metrics.nll(predicted, votes) >= metrics.nll(votes, votes) - 1e-6).all()


@given(shares(), shares(), st.permutations(range(4)))
def test_order_of_documents_leaves_means(predicted, votes, order):
    for metric in (metrics.nll, metrics.l1, metrics.example_f1):
        scores = metric(predicted, votes)
        assert metric(predicted[order], votes[order]).mean() == pytest.approx(scores.mean())


@pytest.mark.parametrize("metric", [metrics.nll, metrics.nll_single, metrics.l1, metrics.example_f1])
def test_bad_arrays_are_refused(metric):
    good = np.array([[0.5, 0.5]])
    for bad in ([[0.5, np.nan]], [[1.5, 0.5]], [[-0.1, 0.5]]):
        with pytest.raises(ValueError, match="missing or outside"):
            metric(bad, good)
        with pytest.raises(ValueError, match="missing or outside"):
            metric(good, bad)
    with pytest.raises(ValueError, match="shape"):
        metric(good, np.array([[0.5, 0.3, 0.2]]))
    with pytest.raises(ValueError, match="annotators must have shape"):
        metrics.corrected_squared_error(good, good, [3, 3])


@settings(deadline=None, max_examples=40)
@given(arrays(float, st.integers(2, 30), elements=st.floats(-5, 5)))
def test_bootstrap_interval_contains_the_mean(values):
    mean, low, high = metrics.bootstrap(values, resamples=400)
    assert mean == pytest.approx(values.mean())
    assert low - 1e-9 <= mean <= high + 1e-9


def test_bootstrap_agrees_with_theory_and_with_itself():
    values = np.random.default_rng(0).normal(2, 1, 400)
    mean, low, high = metrics.bootstrap(values)
    error = values.std() / 20
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert metrics.bootstrap(values) == (mean, low, high)
    assert metrics.bootstrap(values, seed=1) != (mean, low, high)


def test_bootstrap_edge_cases():
    mean, low, high = metrics.bootstrap([0.3])
    assert mean == 0.3 and math.isnan(low) and math.isnan(high)
    for bad in ([], [1.0, np.nan], [[1.0]], [np.inf]):
        with pytest.raises(ValueError, match="values"):
            metrics.bootstrap(bad)


def test_bootstrap_covers_its_size_in_chunks(monkeypatch):
    values = np.arange(50.0)
    monkeypatch.setattr(metrics, "CHUNK", 70)  # one resample at a time
    drawn = metrics._resampled_means(values, 300, 0)
    assert len(np.unique(drawn)) > 200 and abs(drawn.mean() - 24.5) < 1


def test_every_interval_draws_the_same_resamples(monkeypatch):
    # The draws of published intervals: a change would move every number of the tables.
    plain = np.random.default_rng(3).integers(7, size=(40, 7), dtype=np.int32)
    for chunk in (4_000_000, 70, 1):
        monkeypatch.setattr(metrics, "CHUNK", chunk)
        assert (np.concatenate(list(metrics.resample(7, 40, 3))) == plain).all()
        counts = np.concatenate(list(metrics.resample_counts(7, 40, 3)))
        assert counts.tolist() == [[list(row).count(i) for i in range(7)] for row in plain]
    values = np.random.default_rng(0).random(7)
    assert (metrics._resampled_means(values, 40, 3) == [values[row].mean() for row in plain]).all()


def test_clusters_are_resampled_whole():
    values, clusters = np.array([1.0, 1, 0, 0, 0, 1]), ["a", "a", "b", "b", "b", "c"]
    mean, low, high = metrics.bootstrap(values, clusters=clusters)
    # By hand: all 27 draws of three clusters; sums 2, 0, 1 over 2, 3, 1 documents.
    draws = list(itertools.product([(2, 2), (0, 3), (1, 1)], repeat=3))
    means = [sum(s for s, _ in draw) / sum(n for _, n in draw) for draw in draws]
    assert mean == 0.5 and sorted(set(means))[0] == 0 and (low, high) == (min(means), max(means))
    drawn = metrics._resampled_means(np.array([2.0, 0, 1]), 20_000, 0, np.array([2, 3, 1]))
    assert set(np.round(drawn, 9)) == set(np.round(means, 9))
    assert drawn.mean() == pytest.approx(np.mean(means), abs=0.01)
    assert metrics.bootstrap(values, clusters=range(6)) == metrics.bootstrap(values)  # a cluster a document
    alone = metrics.bootstrap(values, clusters=["a"] * 6)
    assert alone[0] == 0.5 and np.isnan(alone[1:]).all()  # one cluster says nothing of others
    with pytest.raises(ValueError, match="clusters must have shape"):
        metrics.bootstrap(values, clusters=["a", "b"])


def test_bootstrap_is_quick():
    values = np.random.default_rng(0).random(5_000)
    start = time.perf_counter()
    metrics.bootstrap(values)
    assert time.perf_counter() - start < 10  # about half a second on an idle core


def test_paired_difference():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 5, 200)  # shared by both, so only pairing finds the difference
    a, b = common + rng.normal(0.3, 0.5, 200), common + rng.normal(0, 0.5, 200)
    mean, low, high, p = metrics.paired_difference(a, b)
    assert mean == pytest.approx((a - b).mean()) and 0 < low < mean < high and p < 0.01
    back = metrics.paired_difference(b, a)
    assert back == pytest.approx((-mean, -high, -low, p))
    assert metrics.paired_difference(a, a) == (0, 0, 0, 1)
    assert p == 2 / 10_001  # no resample reached zero
    few = a[:20] - b[:20]
    means = metrics._resampled_means(few, 999, 4)
    expected = 2 * (min((means <= 0).sum(), (means >= 0).sum()) + 1) / 1_000
    assert metrics.paired_difference(a[:20], b[:20], 999, 4)[3] == pytest.approx(min(1, expected))
    _, low, high, p = metrics.paired_difference(rng.normal(size=300), rng.normal(size=300))
    assert (low <= 0 <= high) == (p > 0.05)
    assert math.isnan(metrics.paired_difference([1.0], [0.0])[3])
    with pytest.raises(ValueError, match="same documents"):
        metrics.paired_difference([1.0, 2.0], [1.0])


def test_metrics_are_written_with_unit_and_direction():
    assert metrics.METRICS["nll"].axis_label == "NLL, nats (lower is better)"
    assert metrics.METRICS["f1"].axis_label == "Example-F1 (higher is better)"
    assert (metrics.METRICS["nll"].heading, metrics.METRICS["f1"].heading) == ("NLL ↓", "Example-F1 ↑")
    assert metrics.PRINTED == ("nll", "l1", "f1")
