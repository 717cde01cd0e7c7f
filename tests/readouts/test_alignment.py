"""The alignment table: means by hand, best only where a test says so, and one sample for all rows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
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


def test_the_way_goes_from_the_constant_to_the_floor(corpus):
    scores = {("", "constant_0.1"): alignment.score(np.full(corpus.votes.shape, 0.1), corpus)}
    scores["m", "half"] = {k: v / 2 for k, v in scores["", "constant_0.1"].items()}
    scores["", "noise_floor"] = {k: 0 * v for k, v in scores["", "constant_0.1"].items()}
    way = alignment.share_of_way(alignment.tabulate(scores, corpus), "constant_0.1").set_index("method")
    assert way.loc["constant_0.1", "nll"] == 0 and way.loc["noise_floor", "l1"] == 1
    assert way.loc["half", "nll"] == pytest.approx(0.5)


def test_ahead_of_published_needs_the_whole_interval(corpus):
    scores = {("m", "a"): alignment.score(np.full(corpus.votes.shape, 0.5), corpus)}
    mean = scores["m", "a"]["l1"].mean()
    theirs = pd.DataFrame({"metric": "l1", "method": ["x", "y"], "model": "8B", "value": [mean + 1, mean + 5]})
    (row,) = alignment.against_published(scores, theirs).itertuples()
    assert row.ahead and row.difference == pytest.approx(-1) and row.published == pytest.approx(mean + 1)
    close = theirs.assign(value=mean + 1e-6)
    assert not alignment.against_published(scores, close)["ahead"].any()


class Traced:
    """Stands in for a trace of a corpus, with the documents that it failed on."""

    def __init__(self, corpus, failed=(), model="m"):
        self.documents, self.labels, self.failed = corpus.documents, corpus.labels, failed
        self.settings, self.folder = {"model": model}, f"folder of {model}"

    def complete(self):
        return ~self.documents["id"].isin(self.failed).to_numpy()


def test_all_rows_stand_on_the_same_documents(corpus):
    votes = corpus.votes.copy()
    votes[3] = np.nan
    some = replace(corpus, votes=votes)
    kept = alignment.same_documents({"a": Traced(some, ["d1"]), "b": Traced(some, ["d2"])}, some)
    assert set(np.flatnonzero(~kept)) == {1, 2, 3}
    silent = replace(corpus, votes=np.full(votes.shape, np.nan), annotators=np.zeros(40, int))
    assert alignment.same_documents({"a": Traced(silent)}, silent).all()
    with pytest.raises(ValueError, match="other documents"):
        alignment.same_documents({"b": Traced(corpus.take(np.arange(5)))}, corpus)


def test_traces_that_a_table_cannot_tell_apart_are_refused(corpus):
    assert set(alignment.by_model([Traced(corpus), Traced(corpus, model="n")], corpus.labels)) == {"m", "n"}
    with pytest.raises(ValueError, match="both of m: give one of them"):
        alignment.by_model([Traced(corpus), Traced(corpus)], corpus.labels)
    with pytest.raises(ValueError, match="has labels"):
        alignment.by_model([Traced(corpus)], ["joy"])


def test_documents_set_aside_are_those_that_most_models_share(corpus):
    def trace(*rows):
        return SimpleNamespace(documents=corpus.documents.iloc[list(rows)], folder="f")

    a, b, c = trace(1, 2), trace(1, 2), trace(1, 2, 3)
    assert alignment.agree_on_documents({"a": a, "c": c, "b": b}) == (
        {"a": a, "b": b}, {"c": "3 documents are set aside in f, not the 2 of other models"}
    )  # fmt: skip
    assert alignment.agree_on_documents({"a": a, "c": c})[0] == {"c": c}  # as many of each: the longer
    assert alignment.agree_on_documents({}) == ({}, {})


def test_what_is_left_out_is_counted(corpus):
    votes, annotators = corpus.votes.copy(), corpus.annotators.copy()
    votes[3], annotators[3], annotators[5] = np.nan, 0, 1
    some = replace(corpus, votes=votes, annotators=annotators, missing=("x",))
    trace = Traced(some, ["d1"])
    trace.settings["views"] = ["pairwise"]
    trace.pairwise_wins = lambda: np.where(
        np.arange(40)[:, None, None] == 7, 0.5, np.random.default_rng(0).random((40, 4, 4))
    )
    never = replace(corpus, votes=votes * [1, 1, 0], gold=corpus.gold & [True, True, False])
    table = alignment.count_exclusions(some, {"m": trace}, never).set_index("what")
    assert table["number"].tolist() == [1, 1, 1, 1, 1, 1]
    assert table["which"].tolist() == ["x", "d3", "d5", "d1", "d7", "joy"]


def test_traces_of_other_demonstrations_are_not_fitted_on(corpus):
    tested, aside = Traced(corpus), Traced(corpus)
    for trace, plan in ((tested, 1), (aside, 1)):
        trace.settings |= {"plan": plan, "conventions": "ours"}
    alignment.check_same_plan(tested, aside)
    tested.settings["pairs"] = {"design": "sparse", "number": 300}
    alignment.check_same_plan(tested, aside)  # who was asked no pairs has none
    aside.settings["pairs"] = {"design": "all", "number": 1830}
    with pytest.raises(ValueError, match="differ in pairs"):
        alignment.check_same_plan(tested, aside)
    del aside.settings["pairs"]
    aside.settings["plan"] = 2
    with pytest.raises(ValueError, match="differ in plan"):
        alignment.check_same_plan(tested, aside)


def test_documents_are_named_with_others_conventions(corpus):
    assert alignment.describe_documents(corpus) == "dev, all"
    assert alignment.describe_documents(replace(corpus, sample="paper"), "released") == "paper, released conventions"


def test_the_threshold_is_of_f1_alone(corpus):
    half = np.full(corpus.votes.shape, 0.55)
    low, high = alignment.score(half, corpus), alignment.score(half, corpus, 0.6)
    assert (low["nll"] == high["nll"]).all() and low["f1"].mean() != high["f1"].mean()
    assert (high["f1"] == (corpus.votes < 0.5).all(axis=1)).all()


def test_methods_without_a_form_are_rows_without_numbers(corpus):
    scores = {("m", "unary_breakdown"): alignment.score(np.full(corpus.votes.shape, 0.5), corpus)}
    table = alignment.tabulate(scores, corpus, absent=[("m", "max_over_generations")])
    rows = table[table["method"] == "max_over_generations"]
    assert set(rows["metric"]) == set(table["metric"]) and rows["mean"].isna().all() and not rows["best"].any()


def test_c11_is_decided_by_paired_differences(corpus):
    base = np.linspace(1, 3, 40)
    scores = {
        ("m", "max_over_generations"): {"nll": base},
        ("m", "unary_breakdown"): {"nll": base + 0.5},
        ("m", "compare_to_none"): {"nll": base + 9},
        ("", "encoder_soft"): {"nll": base - 0.25},
        ("", "tfidf"): {"nll": base - 5},  # a reference row, not a supervised one
    }
    ahead, behind = alignment.judge_readouts(scores, corpus)
    assert ahead["value"] == pytest.approx(-0.5) and ahead["verdict"] == "holds" and ahead["n"] == 40
    assert behind["value"] == pytest.approx(-0.25) and behind["verdict"] == "holds"
    scores["m", "unary_breakdown"] = {"nll": base - 0.1}
    assert alignment.judge_readouts(scores, corpus)[0]["verdict"] == "does not hold"
