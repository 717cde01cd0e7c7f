"""Answers as cases: steps without labels said again, and how many different answers there are, by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutils.readouts import answers, claims, steps
from tests.readouts.test_steps import LABELS, logs, write


def test_the_number_of_different_answers_by_hand():
    assert answers.count_different([]) == 0
    assert answers.count_different([("joy",)] * 20) == 1
    assert answers.count_different([("joy",), ("joy", "fear"), ("fear", "joy")]) == 3  # in their order
    assert answers.count_different(range(5)) == 5 == answers.count_different([*range(5)] * 7)  # not 4.999...
    half = [(), (), ("joy",), ("fear",)]  # 1/2, 1/4, 1/4: entropy 3/2 ln 2
    assert answers.count_different(half) == pytest.approx(2**1.5)
    # Nineteen of twenty alike are little more than one, whatever the twentieth is.
    expected = math.exp(-0.95 * math.log(0.95) - 0.05 * math.log(0.05))
    assert answers.count_different([("joy",)] * 19 + [("fear",)]) == pytest.approx(expected) and expected < 1.3


def test_steps_are_numbered_by_the_labels_said_for_the_first_time():
    steps = pd.DataFrame(
        [("b", 2, "joy"), ("b", 1, "joy"), ("a", 1, "joy"), ("a", 2, "none"), ("a", 3, "joy"), ("a", 4, "fear")]
        + [("a", 5, "none"), ("b", 3, "fear")],
        columns=["document", "step", "label"],
        index=range(10, 18),
    )
    assert answers.number_steps(steps).to_dict() == dict(zip(steps.index, [0, 1, 1, 2, 0, 3, 0, 2], strict=True))
    assert answers.number_steps(steps, "kept").equals(steps["step"])
    with pytest.raises(ValueError, match="'left out' are not known: take one of kept, excluded"):
        answers.number_steps(steps, "left out")
    with pytest.raises(ValueError, match="without a gap"):
        answers.number_steps(steps[steps["step"] != 2])
    assert answers.number_steps(steps[:0]).empty


def test_lists_are_read_in_the_order_of_the_documents():
    given = pd.DataFrame(
        [("d2", "list", ["joy"]), ("d0", "list", np.array(["fear", "joy"], object)), ("d1", "order=x", ["fear"])],
        columns=["document", "variant", "said"],
    )
    trace = SimpleNamespace(answers=given, documents=pd.DataFrame({"id": ["d0", "d1", "d2"]}))
    assert answers.read_lists(trace).tolist() == [("fear", "joy"), (), ("joy",)]
    assert answers.read_lists(trace, "order=x").tolist() == [(), ("fear",), ()]


def test_a_label_said_again_is_no_label_step(tmp_path):
    """d3 says fear, fear: one step, the last of what it says."""
    lists = [["joy", "anger", "fear"], ["none"], [], ["fear", "fear"]]
    trace = write(tmp_path / "t", lists, np.random.default_rng(0).normal(size=(6, 4)))
    table, kept = steps.tabulate(trace), steps.tabulate(trace, repeats="kept")
    assert table["document"].tolist() == ["d0", "d0", "d0", "d1", "d3"] and table["step"].tolist() == [1, 2, 3, 1, 1]
    ends = table[table["document"] == "d3"].iloc[0]
    assert ends["last"] and pd.isna(ends["next_label"]) and ends["steps"] == 1 and not ends["repeated"]
    assert np.isnan(ends[["next_said", "second_next", "second_is_next"]].astype(float)).all()
    pd.testing.assert_frame_equal(table.iloc[:4], kept.iloc[:4])  # others are as they were
    with pytest.raises(ValueError, match="'counted' are not known: take one of kept, excluded"):
        steps.tabulate(trace, repeats="counted")


def test_labels_behind_one_said_again_move_up(tmp_path):
    """joy, joy, anger: anger is the second label, and the next one of the first step, whose second label it was."""
    logits = [logs(0.3, 0.05, 0.6, 0.05), logs(0.2, 0.1, 0.6, 0.1), logs(0.7, 0.1, 0.1, 0.1)]
    trace = write(tmp_path / "t", [["joy", "joy", "anger"]], logits)
    table = steps.tabulate(trace)
    assert table["label"].tolist() == ["joy", "anger"] and table["step"].tolist() == [1, 2]
    assert table["last"].tolist() == [False, True] and table["next_label"].fillna("").tolist() == ["anger", ""]
    first = table.iloc[0]
    assert (first["second_is_next"], first["second_at"]) == (1, 2)
    assert first["next_said"] == pytest.approx(0.3) and first["second_next"] == pytest.approx(0.7)
    kept = steps.tabulate(trace, repeats="kept").iloc[0]
    assert (kept["second_is_next"], kept["second_at"]) == (0, 3) and kept["next_said"] == pytest.approx(0.6)
    # The paper's code takes the argmax for the label: what it repeats is what it takes.
    again = write(tmp_path / "u", [["joy", "anger"]], [logs(0.3, 0.1, 0.5, 0.1), logs(0.3, 0.1, 0.5, 0.1)])
    assert steps.tabulate(again, conventions="released")["label"].tolist() == ["joy"]
    assert len(steps.tabulate(again)) == 2
    gap = write(tmp_path / "g", [["joy", "joy", "anger"]], logits)
    gap.steps.loc[1, "step"] = 3  # 1, 3, 3: a step is missing where a label is said again, too
    with pytest.raises(ValueError, match="without a gap"):
        steps.tabulate(gap)


def read_claims(trace):
    """Returns what C2 to C5, Fig. 3, 5, 11 and Table 4 are read from."""
    table = steps.gather([trace])
    judged = pd.DataFrame(steps.judge(table))
    return judged[judged["claim"] != "C1"], steps.summarise(table), steps.never_said(table), steps.accuracy(table), \
        steps.ranks(table)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_repetitions_at_the_end_of_an_answer_change_nothing(tmp_path_factory, seed):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("t")
    lists = [list(rng.permutation([*LABELS, "none"])[: rng.integers(0, 4)]) for _ in range(12)]
    more = [[*said, *(rng.choice(said, rng.integers(0, 4)) if said else [])] for said in lists]
    logits = [rng.normal(size=(len(said), 4)) for said in more]
    gold = rng.random((12, 3)) < 0.6
    plain = write(folder / "a", lists, np.concatenate([x[: len(s)] for x, s in zip(logits, lists, strict=True)]), gold)
    longer = write(folder / "b", more, np.concatenate(logits), gold)
    for one, other in zip(read_claims(plain), read_claims(longer), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_twenty_copies_of_one_answer_are_one_case(tmp_path):
    """Of a real page: C4 held with n = 20, as one label was said twice to twenty documents."""
    labels = ("admiration", "anger", "joy")
    logits = np.array([[5, 3, 0, 0], [5, 3, 0, 0]] * 20)
    twice = write(tmp_path / "a", [["admiration"] * 2] * 20, logits, [[1, 0, 0]] * 20, labels)
    rows = pd.DataFrame(steps.judge(steps.gather([twice])))
    assert rows.groupby("claim")["n"].max().to_dict() == {"C1": 20, "C2": 0, "C3": 0, "C4": 0, "C5": 0}
    assert set(rows["verdict"]) == {claims.VERDICTS[2]} and rows.query("claim == 'C1'")["different"].item() == 1
    kept = pd.DataFrame(steps.judge(steps.gather([twice], repeats="kept")))  # the paper's reading is one case as well
    assert set(kept["verdict"]) == {claims.VERDICTS[2]} and set(kept.query("claim == 'C4'")["n"]) == {20}
    # Whatever n is: forty times one list of two labels is still one answer, each claim's interval on one side.
    same = write(
        tmp_path / "b", [["admiration", "joy"]] * 40, np.array([[9, 3, 0, 0], [0, 3, 9, 0]] * 40), None, labels
    )
    rows = pd.DataFrame(steps.judge(steps.gather([same]))).query("claim in ('C1', 'C2', 'C4')")
    assert set(rows["n"]) == {40} and set(rows["different"]) == {1} and set(rows["verdict"]) == {claims.VERDICTS[2]}


def test_where_groups_are_compared_the_one_with_fewest_answers_counts(tmp_path):
    """Four lists end at r = 1, thrice each; one list of two labels goes on, twenty times."""
    ends = [[label] for label in (*LABELS, "none")] * 3
    lists = [*ends, *[["joy", "fear"]] * 20]
    trace = write(tmp_path / "t", lists, np.random.default_rng(0).normal(size=(52, 4)))
    rows = pd.DataFrame(steps.judge(steps.gather([trace]))).set_index("statistic")
    told = rows.loc[steps.STATISTICS["told at 1"].name]
    assert (told["n"], told["different"]) == (12, 1)
    share = [3 / 32] * 4 + [20 / 32]
    assert rows.loc[steps.STATISTICS["spiky"].name, "different"] == pytest.approx(
        np.exp(-np.sum(share * np.log(share)))
    )
