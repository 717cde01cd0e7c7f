"""Answers under other demonstrations and orders, by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlutils import metrics
from mlutils.readouts import claims, variants
from mlutils.reporting import published
from mlutils.reporting.variants import label_order
from mlutils.traces import TraceError

LABELS = ("anger", "fear", "joy")
ORDERS = ("alphabetical", "reversed", "random-1")


def made(said, orders=None, plans=1):
    """A trace of some documents; said: variant -> the labels of each answer, in order; plans: shown to them in turn."""
    ids = [f"d{i}" for i in range(len(next(iter(said.values()))))]
    rows = [
        {"document": i, "variant": name, "said": labels, "status": "ok" if labels else "not a list"}
        for name, answers in said.items()
        for i, labels in zip(ids, answers, strict=True)
    ]
    answers = pd.DataFrame(rows)

    def of(name):
        return np.array([[label in labels for label in LABELS] for labels in said[name]])

    return SimpleNamespace(
        folder="f",
        settings={
            "variants": {
                name: {"label_order": (orders or {}).get(name, LABELS), "plan": {"ids": [["x"]] * plans}}
                for name in said
            }
        },
        documents=pd.DataFrame({"id": ids}),
        answers=answers,
        labels=LABELS,
        said=of,
        complete=lambda: np.ones(len(ids), bool),
    )


def test_shares_of_multi_label_answers():
    trace = made(
        {
            "ratio=0": [["joy"], ["joy"], []],
            "ratio=0.5": [["joy", "fear"], ["joy"], ["fear"]],
            "ratio=1": [["joy", "fear"], ["fear", "joy"], ["fear", "anger", "joy"]],
        }
    )
    table = variants.count_several(trace)
    assert table["ratio"].tolist() == [0, 0.5, 1] and table["n"].tolist() == [3, 3, 3]
    assert table["share"].tolist() == pytest.approx([0, 1 / 3, 1])
    assert table["labels"].tolist() == pytest.approx([2 / 3, 4 / 3, 7 / 3]) and table["unread"].tolist() == [1, 0, 0]
    assert table["plans"].tolist() == [1, 1, 1] and table[["low", "high"]].isna().all(axis=None)
    slope, low, high, n = variants.follow(trace)
    assert slope == pytest.approx(1.0)  # least squares through (0, 0), (.5, 1/3), (1, 1)
    assert slope == pytest.approx(np.polyfit(table["ratio"], table["share"], 1)[0])
    assert n == 1 and np.isnan([low, high]).all()  # one plan, whatever the number of documents
    assert claims.judge(claims.Statistic("C6", "slope", 0.5), "m", "c", slope, low, high, n)["verdict"] == (
        "cannot be told here"
    )
    deaf = made({f"ratio={r}": [["joy"], ["joy", "fear"], ["joy"]] for r in (0, 0.5, 1)}, plans=3)
    assert variants.follow(deaf) == (0, 0, 0, 3)


def test_different_answers_are_those_of_the_variant_with_the_fewest():
    lists = [[label] for label in LABELS] + [["joy", "fear"], ["fear", "joy"]]
    followed = made({"ratio=0": lists, "ratio=1": [["joy", "fear"]] * 4 + [["fear", "joy"]]})
    few = np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))
    assert variants.count_several(followed)["different"].tolist() == pytest.approx([5, few])
    assert variants.count_different(followed, "ratio") == pytest.approx(few)
    # A recited list under each order: every answer changes, and there are three of them, each one case.
    recited = {f"order={name}": [said] * 5 for name, said in zip(ORDERS, lists[2:], strict=True)}
    trace = made(recited, {"order=reversed": LABELS[::-1]})
    assert variants.changed_share(trace)[0] == 1 and variants.count_different(trace, "order") == 1
    table = variants.compare_orders(trace).set_index("order")
    assert table["different"].to_dict() == {"alphabetical": 0, "reversed": 1, "random": 1}
    assert (
        set(table["documents_different"]) == {1} and variants.read_order(trace, "order=reversed").several[0][0] == "joy"
    )


def test_intervals_of_shares_resample_plans():
    one, two = ["joy"], ["joy", "fear"]
    # Plans in turn 0, 1, 0, 1, 0: all of plan 0's answers have two labels, none of plan 1's.
    trace = made({"ratio=0": [one] * 5, "ratio=1": [two, one, two, one, two]}, plans=2)
    table = variants.count_several(trace)
    assert table["plans"].tolist() == [2, 2] and table["n"].tolist() == [5, 5]
    # Two plans drawn from two: both the first (1), both the second (0), or one each (3 of 5): a quarter, a quarter,
    # a half. Of five documents drawn one by one hardly any draw is all of a kind.
    assert table.loc[1, ["share", "low", "high"]].tolist() == pytest.approx([0.6, 0, 1])
    assert metrics.bootstrap([1, 0, 1, 0, 1])[1] > 0
    assert table.loc[0, ["share", "low"]].tolist() == [0, 0]
    assert (1 - table.loc[0, "high"]) ** 2 == pytest.approx(0.025)  # two plans without any: what a share may still be
    slope, low, high, n = variants.follow(trace)
    assert (slope, low, high, n) == (pytest.approx(0.6), pytest.approx(0), pytest.approx(1), 2)
    dots = variants.count_by_plan(trace)
    assert dots["ratio"].tolist() == [0, 0, 1, 1] and dots["plan"].tolist() == [0, 1, 0, 1]
    assert dots["share"].tolist() == [0, 0, 1, 0] and dots["n"].tolist() == [3, 2, 3, 2]


def test_documents_that_failed_leave_their_plan():
    one, two = ["joy"], ["joy", "fear"]
    trace = made({"ratio=0": [one] * 4, "ratio=1": [two, one, one, two]}, plans=3)
    trace.complete = lambda: np.array([False, True, True, True])
    dots = variants.count_by_plan(trace).query("ratio == 1")
    assert dots[["plan", "share", "n"]].to_numpy().tolist() == [[0, 1, 1], [1, 0, 1], [2, 0, 1]]  # document 3 is plan 0
    trace.complete = lambda: np.array([True, False, True, True])
    assert variants.count_several(trace)["plans"].tolist() == [2, 2] and variants.follow(trace)[3] == 2


def test_orders_of_labels_and_changed_sets():
    trace = made(
        {
            "order=alphabetical": [["fear", "joy"], ["joy"], ["anger", "fear"]],
            "order=reversed": [["joy", "fear"], ["joy"], ["anger", "joy"]],
            "order=random-1": [["fear", "anger"], ["joy"], ["anger", "fear"]],
            "order=random-2": [["fear", "joy"], ["fear"], ["anger", "fear"]],
        },
        {
            "order=reversed": ("joy", "fear", "anger"),
            "order=random-1": ("fear", "anger", "joy"),
            "order=random-2": ("fear", "joy", "anger"),
        },
    )
    table = variants.compare_orders(trace).set_index("order")
    assert table["n"].to_dict() == {"alphabetical": 2, "reversed": 2, "random": 4}
    assert table["alphabetical"].tolist() == pytest.approx([1, 0.5, 0.75])
    assert table["instruction"].tolist() == pytest.approx([1, 0.5, 0.5])
    assert table["changed"].tolist() == pytest.approx([0, 1 / 3, 1 / 3])  # c; then a (half), b (half)


def test_statistics_of_c9_by_hand():
    said = {
        "order=alphabetical": [["fear", "joy"], ["joy"], ["anger", "fear"]],
        "order=reversed": [["joy", "fear"], ["joy"], ["joy", "fear", "anger"]],
        "order=random-1": [["joy"], ["joy"], ["anger", "fear"]],
    }
    orders = {"order=reversed": LABELS[::-1]}
    gain, _, _, n = variants.reversed_gain(made(said, orders))
    assert gain == 1 and n == 2
    said["order=reversed"][0] = ["fear", "joy"]
    assert variants.reversed_gain(made(said, orders))[0] == 0  # one each way
    share, _, _, n = variants.changed_share(made(said, orders))
    assert share == pytest.approx((1 / 2 + 0 + 1 / 2) / 3) and n == 3
    none = {"order=alphabetical": [["joy"]] * 3, "order=reversed": [["joy"]] * 3}
    assert variants.reversed_gain(made(none, orders))[3] == 0


def test_a_model_without_multi_label_answers_has_no_order():
    trace = made({"order=alphabetical": [["joy"]] * 3, "order=reversed": [["joy"]] * 3})
    table = variants.compare_orders(trace)
    assert table["alphabetical"].isna().all() and (table["n"] == 0).all() and (table["changed"] == 0).all()
    told = label_order(table.assign(model="m", corpus="mfrc"), published.label_order())
    assert told["alphabetical, %"].tolist() == ["–", "–"]  # Table 7 says that there is no number
    assert not (told.astype(str) == "nan").any(axis=None)
    silent = made({f"ratio={r}": [["joy"]] * 3 for r in (0, 0.5, 1)}, plans=3)
    assert variants.follow(silent)[0] == 0 and variants.count_several(silent)["share"].tolist() == [0, 0, 0]


def test_shares_of_few_answers_are_not_shown():
    table = pd.DataFrame({"n": [10, 11], "documents": [40, 40]})
    for name in ("alphabetical", "instruction", "changed"):
        table[[name, f"{name}_low", f"{name}_high"]] = 0.5
    read = variants.drop_few(table)
    assert read["alphabetical"].isna().tolist() == read["instruction_high"].isna().tolist() == [True, False]
    assert read["changed"].tolist() == [0.5, 0.5] and read["n"].tolist() == [10, 11]
    assert table["alphabetical"].notna().all()  # the file keeps what was counted


def test_traces_without_the_view_are_named():
    with pytest.raises(TraceError, match=r"no view ratio: trace with asked=\[list, ratio\]"):
        variants.count_several(made({"order=alphabetical": [["joy"]] * 3}))
