"""The table of further measures: constants and the noise floor in it, and what few annotators do to a correlation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlutils import noise_floor
from mlutils.corpora import Corpus
from mlutils.measures import MEASURES, measure
from mlutils.readouts import alignment, measures


def draw(documents, annotators, seed):
    """Returns a corpus of three labels whose true shares are known."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.4, 0.9, (documents, 3))
    votes = rng.binomial(annotators, truth) / annotators
    ids = pd.DataFrame({"id": [f"d{i}" for i in range(documents)], "text": ""})
    n = np.full(documents, annotators)
    return Corpus("made", "dev", "all", ("a", "b", "c"), ids, votes >= 0.5, votes, n, truth)


def test_means_of_documents_and_constants_by_hand(corpus):
    predicted = np.full(corpus.votes.shape, 0.5)
    table = measures.tabulate({("m", "unary_breakdown"): predicted, ("", "zeros"): predicted * 0}, corpus, corpus)
    assert list(table.columns) == measures.COLUMNS and set(table["metric"]) == set(MEASURES)
    assert (table["n"] == 40).all() and set(table["documents"]) == {"dev, all"}
    means = table.pivot_table("mean", "metric", "method", dropna=False)
    assert means.loc["dist_ce", "unary_breakdown"] == pytest.approx(np.abs(0.5 - corpus.votes).mean())
    assert means.loc["dist_ce", "zeros"] == pytest.approx(corpus.votes.mean())
    assert means.loc["soft_micro_f1", "zeros"] == 0
    assert means.loc[["entropy_correlation", "entropy_correlation_corrected"], "zeros"].isna().all()
    assert means.loc["entropy_correlation_corrected", "noise_floor"] == 1
    assert means.loc["dist_ce", "noise_floor"] < means.loc["dist_ce", "unary_breakdown"]
    known = table.dropna(subset="mean")
    assert (known["low"] <= known["mean"] + 1e-9).all() and (known["mean"] <= known["high"] + 1e-9).all()
    assert (known.loc[known["metric"] == "ece", "low"] >= 0).all()


def test_intervals_are_those_of_the_metrics(corpus):
    """The same quantity as L1 over the labels, resampled fewer times."""
    predicted = np.clip(corpus.votes + 0.2, 0, 1)
    (row,) = (
        measures.tabulate({("m", "a"): predicted}, corpus, corpus)
        .query("method == 'a' and metric == 'dist_ce'")
        .itertuples()
    )
    table = alignment.tabulate({("m", "a"): alignment.score(predicted, corpus)}, corpus).set_index("metric")
    mean, low, high = table.loc["l1", ["mean", "low", "high"]] / 3
    assert row.mean == pytest.approx(mean)
    assert (row.low, row.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_noise_floor_is_what_the_truth_scores(monkeypatch):
    """Where the prior is known; what three annotators leave open of it stands in `readouts.measures`."""
    test = draw(1_500, 3, 1)
    known = noise_floor.Prior(np.ones((3, 1)), np.tile([[[0.4, 0.9]]], (3, 1, 1)), single_label=False)
    monkeypatch.setattr(noise_floor, "fit_prior", lambda *given: known)
    monkeypatch.setattr(measures, "FLOOR_RESAMPLES", 10)
    floor = measures.tabulate({}, test, test).set_index("metric")["mean"]
    for name, each in MEASURES.items():
        if not each.corrects:
            right = measure(name, test.truth, test.votes, test.annotators, False, np.ones((1, len(test))))[0]
            assert floor[name] == pytest.approx(right, rel=0.02, abs=0.005), name


def test_corrected_correlations_are_those_with_the_truth(monkeypatch):
    """However few annotators show it; here of a predictor that is right about half of the documents."""
    monkeypatch.setattr(measures, "RESAMPLES", 100)
    test, train = draw(2_000, 6, 3), draw(4_000, 6, 4)
    rng = np.random.default_rng(0)
    guessed = np.where(rng.random((len(test), 1)) < 0.5, test.truth, rng.permutation(test.truth))
    found = measures.tabulate({("m", "a"): guessed}, test, train).query("method == 'a'").set_index("metric")["mean"]
    with_truth = measure("entropy_correlation", guessed, test.truth, test.annotators, False, np.ones((1, 2_000)))[0]
    assert found["entropy_correlation"] < 0.8 * with_truth
    assert found["entropy_correlation_corrected"] == pytest.approx(with_truth, rel=0.06)


def test_nothing_is_measured_without_votes_and_no_interval_given_of_one_document(corpus):
    silent = replace(corpus, votes=np.full(corpus.votes.shape, np.nan), annotators=np.zeros(40, int))
    assert measures.tabulate({("m", "a"): corpus.votes}, silent, corpus).empty
    one = measures.tabulate({("m", "a"): corpus.votes[:1]}, corpus.take(np.arange(1)), corpus)
    assert one["low"].isna().all() and one.query("metric == 'brier'")["mean"].notna().all()
