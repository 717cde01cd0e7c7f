"""Answers under other demonstrations and orders, by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlutils.readouts import variants
from mlutils.traces import TraceError

LABELS = ("anger", "fear", "joy")


def made(said, orders=None):
    """A trace of three documents; said: variant -> the labels of each answer, in order."""
    ids = ["a", "b", "c"]
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
        settings={"variants": {name: {"label_order": (orders or {}).get(name, LABELS)} for name in said}},
        documents=pd.DataFrame({"id": ids}),
        answers=answers,
        labels=LABELS,
        said=of,
        complete=lambda: np.ones(3, bool),
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
    slope, low, high, n = variants.follow(trace)
    assert slope == pytest.approx(1.0) and n == 3  # least squares through (0, 0), (.5, 1/3), (1, 1)
    assert slope == pytest.approx(np.polyfit(table["ratio"], table["share"], 1)[0])
    deaf = made({f"ratio={r}": [["joy"], ["joy", "fear"], ["joy"]] for r in (0, 0.5, 1)})
    assert variants.follow(deaf)[:3] == (0, 0, 0)


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
    gain, _, _, n = variants.reversed_gain(made(said))
    assert gain == 1 and n == 2
    said["order=reversed"][0] = ["fear", "joy"]
    assert variants.reversed_gain(made(said))[0] == 0  # one each way
    share, _, _, n = variants.changed_share(made(said))
    assert share == pytest.approx((1 / 2 + 0 + 1 / 2) / 3) and n == 3
    assert variants.reversed_gain(made({"order=reversed": [["joy"]] * 3}))[3] == 0


def test_a_model_without_multi_label_answers_has_no_order():
    trace = made({"order=alphabetical": [["joy"]] * 3, "order=reversed": [["joy"]] * 3})
    table = variants.compare_orders(trace)
    assert table["alphabetical"].isna().all() and (table["n"] == 0).all() and (table["changed"] == 0).all()


def test_traces_without_the_view_are_named():
    with pytest.raises(TraceError, match=r"no view ratio: trace with asked=\[list, ratio\]"):
        variants.count_several(made({"order=alphabetical": [["joy"]] * 3}))
