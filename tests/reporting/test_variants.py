"""Fig. 6: every share at its place, and the plans beside it. Table 7 beside the published one."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import published
from mlutils.reporting.variants import label_order, several_by_ratio

COLUMNS = ["corpus", "model", "ratio", "share", "low", "high", "n", "different", "plans"]
DOTS = pd.DataFrame([], columns=["corpus", "model", "ratio", "plan", "share", "n"])


def test_every_share_is_at_its_place():
    rows = [
        [corpus, "m", ratio, ratio / 2, 0, 1, 20, 4 + ratio, 2]
        for corpus in ("mfrc", "semeval")
        for ratio in (1.0, 0.0, 0.5)
    ]
    dots = [
        [corpus, "m", ratio, plan, plan * ratio, 10]
        for corpus in ("mfrc", "semeval")
        for ratio in (0.0, 0.5, 1.0)
        for plan in (0, 1)
    ]
    fig = several_by_ratio(pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(dots, columns=DOTS.columns))
    assert [axis.get_title() for axis in fig.axes] == [
        f"{corpus}, n = 20, 2 plans\n4.0 to 5.0 different answers a share" for corpus in ("MFRC", "SemEval")
    ]
    assert fig.alt.endswith("light dot. mfrc at 100% 50%; mfrc at 0% 0%; semeval at 100% 50%; semeval at 0% 0%")
    for axis in fig.axes:
        (line, _, (bars,)) = axis.containers[0]
        assert line.get_xdata().tolist() == [0, 50, 100] and line.get_ydata().tolist() == [0, 25, 50]
        assert bars.get_segments()[1][:, 1].tolist() == [0, 100]
        x, y = axis.collections[0].get_offsets().T
        assert y.tolist() == [0, 0, 0, 50, 0, 100]
        assert x.tolist() == pytest.approx([-2, 2, 48, 52, 98, 102])


def test_the_dots_of_two_models_lie_side_by_side():
    table = pd.DataFrame([["mfrc", m, 0.5, 0.5, 0.4, 0.6, 20, 4.0, 2] for m in "ab"], columns=COLUMNS)
    dots = pd.DataFrame([["mfrc", m, 0.5, plan, 0.5, 10] for m in "ab" for plan in (0, 1)], columns=DOTS.columns)
    fig = several_by_ratio(table, dots)
    (axis,) = fig.axes
    assert [dots.get_offsets()[:, 0].tolist() for dots in axis.collections if len(dots.get_offsets()) == 2] == [
        pytest.approx([47, 49]),
        pytest.approx([51, 53]),
    ]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "one plan"]


def test_plans_of_one_document_are_no_dots_and_a_single_plan_has_no_interval():
    table = pd.DataFrame([["mfrc", "m", 0.5, 0.5, float("nan"), float("nan"), 20, 4.0, 1]], columns=COLUMNS)
    own = pd.DataFrame([["mfrc", "m", 0.5, plan, 1.0, 1] for plan in range(20)], columns=DOTS.columns)
    (axis,) = several_by_ratio(table, own).axes
    assert axis.get_title() == "MFRC, n = 20, 1 plan\n4.0 to 4.0 different answers a share"
    assert len(axis.collections[0].get_offsets()) == 0


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="no rows"):
        several_by_ratio(pd.DataFrame([], columns=COLUMNS), DOTS)
    many = pd.DataFrame([["mfrc", f"m{i}", 0, 0, 0, 0, 9, 4.0, 2] for i in range(7)], columns=COLUMNS)
    with pytest.raises(ValueError, match="7 models are too many"):
        several_by_ratio(many, DOTS)


def test_label_order_has_the_published_percents_beside_ours():
    row = {"corpus": "mfrc", "model": "m", "order": "reversed", "n": 40, "different": 6.5}
    row |= {"documents": 1200, "documents_different": 3.25}
    for column, mean in (("alphabetical", 0.25), ("instruction", np.nan), ("changed", 0.5)):
        row |= {column: mean, f"{column}_low": mean - 0.1, f"{column}_high": mean + 0.1}
    (cells,) = label_order(pd.DataFrame([row]), published.label_order()).to_numpy().tolist()
    assert cells[:5] == ["MFRC", "m", "reverse alphabetical", "25.0 [15.0, 35.0]", "15.9"]
    assert cells[5:] == ["–", "71.9", "40 (6.5 different)", "50.0 [40.0, 60.0]", "1,200 (3.2 different)"]
