"""The alignment table: means by hand, best only where a test says so, and one sample for all rows."""

from dataclasses import replace

import numpy as np
import pytest

from mlutils.readouts import alignment


def test_scores_and_table_by_hand(corpus):
    predicted = np.full(corpus.votes.shape, 0.5)
    scores = {("m", "unary_breakdown"): alignment.score(predicted, corpus)}
    table = alignment.tabulate(scores, corpus).set_index("metric")
    assert table.loc["l1", "mean"] == pytest.approx(np.abs(0.5 - corpus.votes).sum(1).mean())
    assert table.loc["nll", "mean"] == pytest.approx(3 * np.log(2))
    assert (table["n"] == 40).all() and (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
    assert set(table["documents"]) == {"dev, all"}


def test_best_needs_a_difference_that_a_paired_test_sees(corpus):
    near = np.clip(corpus.votes + 0.01, 0.02, 0.98)
    far = np.clip(1 - corpus.votes, 0.02, 0.98)
    scores = {("m", "near"): alignment.score(near, corpus), ("m", "far"): alignment.score(far, corpus)}
    best = alignment.tabulate(scores, corpus).query("metric == 'nll'").set_index("method")["best"]
    assert best["near"] and not best["far"]
    twice = {("m", "near"): alignment.score(near, corpus), ("m", "same"): alignment.score(near, corpus)}
    assert not alignment.tabulate(twice, corpus)["best"].any()
    only_far = alignment.tabulate(scores, corpus, compared=["far"])
    assert not only_far["best"].any(), "a method that is alone has nobody to be better than"


def test_corpora_without_votes_have_f1_against_gold(corpus):
    silent = replace(corpus, votes=np.full(corpus.votes.shape, np.nan), annotators=np.zeros(40, int))
    scores = alignment.score(corpus.gold.astype(float), silent)
    assert set(scores) == {"f1"} and (scores["f1"] == 1).all()


def test_differences_are_paired(corpus):
    a = alignment.score(np.full(corpus.votes.shape, 0.2), corpus)
    b = alignment.score(np.full(corpus.votes.shape, 0.4), corpus)
    row = alignment.differences({("m", "a"): a, ("m", "b"): b}, "l1", ("m", "b")).iloc[0]
    assert row["difference"] == pytest.approx((a["l1"] - b["l1"]).mean()) and row["low"] <= row["high"]


def test_the_noise_floor_is_below_constants(corpus):
    floor = alignment.score_noise_floor(corpus, corpus)
    constant = alignment.score(np.full(corpus.votes.shape, 0.1), corpus)
    assert floor["nll"].mean() < constant["nll"].mean() and floor["l1"].mean() < constant["l1"].mean()


class Traced:
    def __init__(self, corpus, failed=()):
        self.corpus, self.documents, self.labels = corpus, corpus.documents, corpus.labels
        self.failed = failed

    def complete(self):
        return ~self.documents["id"].isin(self.failed).to_numpy()


def test_all_rows_stand_on_the_same_documents(corpus):
    votes = corpus.votes.copy()
    votes[3] = np.nan
    some = replace(corpus, votes=votes)
    kept = alignment.same_documents({"a": Traced(some, ["d1"]), "b": Traced(some, ["d2"])})
    assert set(np.flatnonzero(~kept)) == {1, 2, 3}
    with pytest.raises(ValueError, match="other documents"):
        alignment.same_documents({"a": Traced(corpus), "b": Traced(corpus.take(np.arange(5)))})
