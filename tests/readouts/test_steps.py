"""Label steps by hand, against a slow reading of the definitions, and at the size of GoEmotions."""

import sys
import tracemalloc
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutils import reporting
from mlutils.readouts import claims, steps
from tests.hand_made import write_lists

LABELS = ("anger", "fear", "joy")


def write(folder, lists, logits, gold=None, labels=LABELS, status="ok", **changed):
    """A trace of one list a document; logits: one row (L + 1) a label step, in the order of the documents."""
    names = [f"d{i}" for i in range(len(lists))]
    gold = np.zeros((len(lists), len(labels)), bool) if gold is None else np.asarray(gold, bool)
    common = dict(model="small", corpus="foxes", split="dev", sample="all", single_label=False, views=["list"])
    settings = common | {"labels": list(labels), "conventions": "ours", "seed": 0, **changed}
    documents = [
        {"id": name, "text": "", "gold": row.tolist(), "votes": row.astype(float).tolist(), "annotators": 3}
        for name, row in zip(names, gold, strict=True)
    ]
    return write_lists(folder, settings, documents, lists, logits, status)


def logs(*probabilities):
    return np.log(probabilities)


@pytest.fixture
def trace(tmp_path):
    """d0 says joy, anger, fear; d1 none; d2 nothing; d3 fear, fear."""
    logits = [
        logs(0.2, 0.1, 0.6, 0.1),
        logs(0.5, 0.1, 0.25, 0.15),
        logs(0.05, 0.9, 0.04, 0.01),
        logs(0.1, 0.1, 0.2, 0.6),
        logs(0.3, 0.4, 0.2, 0.1),
        logs(0.05, 0.8, 0.1, 0.05),
    ]
    gold = [[1, 0, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]]
    return write(tmp_path / "t", [["joy", "anger", "fear"], ["none"], [], ["fear", "fear"]], logits, gold)


def test_a_row_a_label_step_by_hand(trace):
    """With d3's second fear, as the paper reads it."""
    table = steps.tabulate(trace, repeats="kept")
    assert table["document"].tolist() == ["d0", "d0", "d0", "d1", "d3", "d3"]
    assert table["step"].tolist() == [1, 2, 3, 1, 1, 2] and table["steps"].tolist() == [3, 3, 3, 1, 2, 2]
    assert table["last"].tolist() == [False, False, True, True, False, True]
    assert table["label"].tolist() == ["joy", "anger", "fear", "none", "fear", "fear"]
    assert table["next_label"].fillna("").tolist() == ["anger", "fear", "", "", "fear", ""]
    assert table["second_label"].tolist() == ["anger", "joy", "anger", "joy", "anger", "joy"]
    np.testing.assert_allclose(table["first"], [0.6, 0.5, 0.9, 0.6, 0.4, 0.8])
    np.testing.assert_allclose(table["second"], [0.2, 0.25, 0.05, 0.2, 0.3, 0.1])
    nan = np.nan
    np.testing.assert_allclose(table["next_said"], [0.2, 0.1, nan, nan, 0.4, nan])
    np.testing.assert_allclose(table["second_next"], [0.5, 0.04, nan, nan, 0.05, nan])
    np.testing.assert_allclose(table["second_is_next"], [1, 0, nan, nan, 0, nan])
    assert table["second_later"].tolist() == [True, False, False, False, False, False]
    assert table["second_before"].tolist() == [False, True, True, False, False, False]
    np.testing.assert_allclose(table["second_at"], [2, nan, nan, nan, nan, nan])
    assert table["repeated"].tolist() == [False] * 5 + [True]
    assert table["distinct"].tolist() == [3, 3, 3, 0, 1, 1] and table["position"].tolist() == [1, 2, 3, 0, 1, 0]
    assert table["first_rank"].tolist() == [1, 2, 3, 1, 1, 1]  # fear and none tie at d0's first step: fear comes first
    assert table["gold"].tolist() == [True, True, False, True, True, True]  # none is right where nothing is gold
    assert table["gold_second"].tolist() == [True, True, True, False, True, False]
    assert table["said_is_top1"].all() and table["gold_labels"].tolist() == [2, 2, 2, 0, 2, 2]
    assert table["entropy"][3] == pytest.approx(-(0.2 * np.log2(0.1) + 0.2 * np.log2(0.2) + 0.6 * np.log2(0.6)))


def test_ties_go_to_the_first_in_the_order_of_the_labels(tmp_path):
    logits = [[1, 0, 0, 0], [0, 2, 0, 2], [3, 2, 1, 1], [0, -800, -900, 0.5]]
    table = steps.tabulate(write(tmp_path / "t", [["anger"], ["fear"], ["anger"], ["anger"]], logits))
    assert table["top1"].tolist() == ["anger", "fear", "anger", "none"]
    assert table["second_label"].tolist() == ["fear", "none", "fear", "anger"]
    assert table["tied"].tolist() == [True, True, False, False]  # of the last one two probabilities are 0, no logits
    assert table["said_is_top1"].tolist() == [True, True, True, False]


def test_the_released_code_takes_the_argmax_for_the_label(tmp_path):
    trace = write(tmp_path / "t", [["joy", "fear"]], [[2, 0, 1, 0], [0, 0, 1, 0]])
    table = steps.tabulate(trace, conventions="released")
    assert table["label"].tolist() == ["anger", "joy"] and table["next_label"].fillna("").tolist() == ["joy", ""]
    assert table["second_is_next"][0] == 1 and steps.tabulate(trace)["second_is_next"][0] == 0
    assert not table["said_is_top1"].any()
    with pytest.raises(ValueError, match="ours or released"):
        steps.tabulate(trace, conventions="theirs")


def slow(lists, logits, gold, order):
    """One dictionary a step, read off the definitions with loops."""
    rows, at = [], 0
    for document, said in enumerate(lists):
        logit, at = logits[at : at + len(said)], at + len(said)
        probability = [np.exp(x) / np.exp(x).sum() for x in logit]
        ranks = [sorted(range(len(order)), key=lambda k, x=x: (-x[k], k)) for x in logit]
        distinct = []
        for r, label in enumerate(said):
            second, after = order[ranks[r][1]], list(said[r + 1 :])
            if label not in distinct and label != "none":
                distinct.append(label)
            own = {name for name, held in zip(order, gold[document], strict=False) if held} or {"none"}
            rows.append(
                {
                    "last": not after,
                    "second_label": second,
                    "first": probability[r].max(),
                    "next_said": probability[r][order.index(after[0])] if after else np.nan,
                    "second_next": probability[r + 1][ranks[r][1]] if after else np.nan,
                    "second_is_next": float(after[0] == second) if after else np.nan,
                    "second_at": r + 2 + after.index(second) if second in after else np.nan,
                    "second_before": second in said[:r],
                    "first_rank": 1 + ranks[0].index(order.index(label)),
                    "gold": label in own,
                    "repeated": label in said[:r],
                    "entropy": -sum(p * np.log2(p) for p in probability[r]),
                    "position": 0 if label in said[:r] or label == "none" else len(distinct),
                }
            )
    return pd.DataFrame(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5))
def test_as_the_definitions_read_with_loops(seed, documents, longest):
    rng, order = np.random.default_rng(seed), [*LABELS, "none"]
    lists = [[order[k] for k in rng.integers(0, 4, rng.integers(0, longest + 1))] for _ in range(documents)]
    total = sum(map(len, lists))
    logits, gold = rng.integers(-2, 3, (total, 4)).astype(float), rng.random((documents, 3)) < 0.4
    counts = [len(said) for said in lists]
    rows, number = np.repeat(np.arange(documents), counts), np.concatenate([np.arange(1, n + 1) for n in counts])
    said = np.array([order.index(label) for each in lists for label in each], int)
    columns = steps.derive(rows, number, said, logits, gold)
    columns["second_label"] = np.array(order)[columns["second_label"]]
    expected = slow(lists, logits, gold, order)
    for name in expected:
        wanted = expected[name].to_numpy()
        if name == "second_label":
            assert columns[name].tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(columns[name].astype(float), wanted.astype(float), err_msg=name)


@pytest.mark.parametrize("number", [[2, 3], [1, 3], [1, 1]])
def test_a_gap_in_the_steps_is_an_error(number):
    with pytest.raises(ValueError, match="without a gap"):
        steps.derive([0, 0], number, [0, 1], np.zeros((2, 4)), np.zeros((1, 3), bool))


def test_traces_that_cannot_be_read_are_refused(trace, tmp_path):
    with pytest.raises(ValueError, match="no answers of the variant 'order'"):
        steps.tabulate(trace, "order")
    other = write(tmp_path / "u", [["joy"]], [np.zeros(4)], views=["unary"])
    with pytest.raises(ValueError, match=r"asked=\[list"):
        steps.tabulate(other)
    infinite = write(tmp_path / "i", [["joy"]], [[0, np.inf, 0, 0]])
    with pytest.raises(ValueError, match="infinite"):
        steps.tabulate(infinite)
    with pytest.raises(ValueError, match="no trace"):
        steps.gather([])


def test_two_label_sets_in_one_figure_are_refused_by_name(trace, tmp_path):
    other = write(tmp_path / "other", [["joy"]], [np.zeros(3)], labels=("fear", "joy"), model="big")
    with pytest.raises(ValueError, match=rf"{trace.folder}.*{other.folder}.*anger, fear, joy against fear, joy"):
        steps.gather([trace, other])
    elsewhere = write(tmp_path / "else", [["joy"]], [np.zeros(3)], labels=("fear", "joy"), corpus="hens")
    assert set(steps.gather([trace, elsewhere])["corpus"]) == {"foxes", "hens"}


def test_traces_of_one_model_and_corpus_are_told_apart_or_refused(trace, tmp_path):
    shots = write(tmp_path / "s", [["joy"]], [np.zeros(4)], seed=1)
    table = steps.gather([trace, shots])
    assert set(table["model"]) == {"small, seed=0", "small, seed=1"}
    again = write(tmp_path / "again", [["joy"]], [np.zeros(4)])
    with pytest.raises(ValueError, match="same settings"):
        steps.gather([trace, again])
    aside = write(tmp_path / "aside", [["joy"]], [np.zeros(4)], sample="reserve")
    single = write(tmp_path / "single", [["joy"]], [np.zeros(4)], single_label=True)
    assert steps.choose([again, single, trace, aside, shots]) == [trace, shots]  # again has fewer documents


def test_what_is_odd_is_counted(trace):
    (left,) = reporting.steps.count(steps.gather([trace]), [trace]).to_dict("records")
    (row,) = reporting.steps.count(steps.gather([trace], repeats="kept"), [trace]).to_dict("records")
    assert (
        left["label said before"] == 1 and left["label steps"] == 5 and (left["last"], left["intermediate"]) == (3, 2)
    )
    # joy, anger, fear; fear (said twice); nothing, to two documents: an entropy of 2/4 ln 4 + 1/2 ln 2.
    assert left["different answers, effective"] == pytest.approx(2**1.5) == row["different answers, effective"]
    assert row["documents"] == 4 and row["without a label step"] == 1 and row["label steps"] == 6
    assert row["answers with two or more labels"] == 1 and row["label said before"] == 1
    assert (row["last"], row["intermediate"]) == (3, 3) and row["mass of the labels below 0.5"] == 3
    assert row["second label said before"] == 2 and row["second label tied"] == 0
    assert row["mean mass of the labels"] == pytest.approx((3 * 0.4 + 3 * 0.9) / 6) and row["most frequent answer"] == 4
    assert row["last, but cut off or with an unknown label"] == 0


def test_summaries_by_hand(trace):
    table = steps.summarise(steps.gather([trace], repeats="kept")).set_index(["step", "group", "quantity"])
    first = table.loc[1, "intermediate", "first"]
    assert first["n"] == 2 and first["mean"] == pytest.approx(0.5) and first["above"] == 0
    assert (first["low"], first["high"]) == pytest.approx((0.4, 0.6))
    assert table.loc[3, "last", "first"]["mean"] == pytest.approx(0.9)
    said_next = table.loc[1, "intermediate", "next_said"]
    assert said_next["n"] == 1 and said_next["mean"] == pytest.approx(0.2)  # d3 says its argmax again: left out
    assert table.loc[1, "intermediate", "second_is_next"]["mean"] == 0.5
    assert table.loc[3, "intermediate", "first"]["n"] == 0 and np.isnan(table.loc[3, "intermediate", "first"]["mean"])
    assert ("last", "next_said") not in {key[1:] for key in table.index}


def test_table_4_counts_only_later_labels(trace):
    (row,) = steps.never_said(steps.gather([trace], repeats="kept")).to_dict("records")
    # d0 at r = 2 (joy was said before) and d3 at r = 1: the second label is not said next, nor later.
    assert (row["n"], row["value"], row["intermediate"]) == (2, 100, 3)
    assert row["not_next"] == pytest.approx(200 / 3)
    assert row["documents"] == 2 and row["different"] == row["intermediate_different"] == 2
    (row,) = steps.never_said(steps.gather([trace], repeats="kept"), "released").to_dict("records")
    assert row["value"] == 50
    (row,) = steps.never_said(steps.gather([trace])).to_dict("records")  # d3 has no intermediate step
    assert (row["n"], row["value"], row["intermediate"], row["not_next"], row["different"]) == (1, 100, 2, 50, 1)


def test_accuracy_of_the_first_and_second_label(trace):
    table = steps.accuracy(steps.gather([trace])).set_index(["gold", "label"])
    assert table.loc[("two or more", "first"), "mean"] == 1 and table.loc[("two or more", "second"), "mean"] == 1
    assert table.loc[("two or more", "first"), "n"] == 1 and not table["shown"].any()


def test_both_readings_of_fig_11(trace):
    table = steps.ranks(steps.gather([trace])).set_index(["reading", "label", "place"])["mean"]
    assert table["A", 2].to_dict() == {1: 0, 2: 1} and table["A", 3].to_dict() == {1: 0, 2: 0, 3: 1}
    assert table["B", 0].to_dict() == {0: 0, 2: 1}


def test_verdicts_of_spiky_lists_and_of_a_model_that_says_one_label(tmp_path):
    """Six lists of two of three labels, spiky; the third label is second at r = 1 and never said."""
    lists = [list(pair) for pair in permutations(LABELS, 2)] * 5
    spiky = np.zeros((60, 4))
    for row, said in enumerate(lists):
        one, two = map(LABELS.index, said)
        spiky[2 * row, [one, 3 - one - two]], spiky[2 * row + 1, [two, 3]] = (9, 1), (8, 1)
    gold = [[label != said[1] for label in LABELS] for said in lists]
    table = steps.gather([write(tmp_path / "a", lists, spiky, gold)])
    verdicts = pd.DataFrame(steps.judge(table)).groupby("claim")["verdict"].agg(list).to_dict()
    held, unknown = claims.VERDICTS[0], claims.VERDICTS[2]
    assert verdicts == {"C1": [held], "C2": [held] * 2, "C3": [unknown] * 2, "C4": [held] * 2, "C5": [held]}
    flat = steps.gather([write(tmp_path / "b", [["anger"]] * 30, [[0.5, 0, 0, 0]] * 30)])
    rows = steps.judge(flat)
    assert [row["verdict"] for row in rows] == [unknown] * 8 and rows[0]["n"] == 30
    assert len(rows) == len(steps.STATISTICS)


def calls(task):
    """Returns how many functions, of Python or C, a task calls."""
    count = [0]

    def profile(frame, event, argument):
        count[0] += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        task()
    finally:
        sys.setprofile(None)
    return count[0]


def generated(documents, labels=7, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.choice([0, 1, 2, 3, 4], documents, p=[0.02, 0.5, 0.33, 0.1, 0.05])
    rows = np.repeat(np.arange(documents), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    logits = rng.normal(0, 3, (len(rows), labels + 1))
    return rows, number, logits.argmax(axis=1), logits, rng.random((documents, labels)) < 0.2


def test_43000_documents_need_no_more_calls_than_430_and_little_memory():
    small, large = generated(430), generated(43_000)
    steps.derive(*small)  # what is imported or cached on the way is done once
    assert len(large[0]) > 65_000
    assert calls(lambda: steps.derive(*large)) <= calls(lambda: steps.derive(*small)) + 20
    tracemalloc.start()
    columns = steps.derive(*large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20 and len(columns["first"]) == len(large[0])


class Large:
    """A trace of 43,000 documents, its tables made in memory."""

    def __init__(self, documents):
        rows, number, said, logits, self.gold = generated(documents)
        self.labels, self.folder = tuple("abcdefg"), "large"
        names, ids = np.array([*self.labels, "none"], object), np.array([f"d{i}" for i in range(documents)], object)
        self.settings = {"views": ["list"], "model": "m", "corpus": "c"}
        self.documents = pd.DataFrame({"id": ids})
        self.answers = pd.DataFrame({"document": ids, "variant": "list", "status": "ok"})
        found = {"document": ids[rows], "variant": "list", "step": number, "label": names[said], "mass": 0.9}
        self.steps = pd.DataFrame(found).assign(logits=list(logits))


def test_all_numbers_of_43000_documents_without_a_loop_over_them():
    """Calls grow with the number of tables, not with documents: under a minute wherever numpy is."""

    def read(trace):
        table = steps.gather([trace])
        steps.summarise(table), steps.never_said(table), steps.accuracy(table), steps.ranks(table), steps.judge(table)

    small, large = Large(430), Large(43_000)
    read(small)
    # A bootstrap draws in chunks of bounded memory: some calls more, against 43,000 documents and 70,000 steps.
    assert calls(lambda: read(large)) < calls(lambda: read(small)) + 10_000
