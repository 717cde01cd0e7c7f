"""How work grows: lines and rates by hand, and what the figure shows."""

import math

import numpy as np
import pandas as pd
import pytest

from mlutils import paths
from mlutils.reporting import growth


def record(sweep, view, value, tokens, seconds, **more):
    size = {"documents": 4, "labels": 5, "demonstrations": 10, "length": 20, "pairs": "", "passes": 3}
    return {"sweep": sweep, "view": view, **size, "tokens": tokens, "seconds": seconds, "model": "tiny"} | {
        sweep: value,
        "products": "plain",
        **more,
    }


RECORDS = [
    *(record("documents", "list", n, 100 + 20 * n, 1 + 0.1 * n) for n in (50, 200, 800)),
    *(record("documents", "unary", n, 100 + 40 * n, 2.0) for n in (50, 200, 800)),
    record("labels", "pairwise", 3, 1000, 3.0, pairs="all"),
    record("labels", "pairwise", 10, 3000, 8.0, pairs="all"),
    record("labels", "pairwise", 60, 4000, 13.0, pairs="sparse"),
    record("length", "list", 10, 400, 2.0, model="other"),
    record("length", "list", 100, 1600, 5.0, model="other"),
]


def test_lines_by_hand():
    assert growth.fit([0, 1, 2], [1, 3, 5]) == pytest.approx((2, 1, 1))
    # Deviations of x are -1, 0, 1: the slope is half of what y grows from first to last.
    slope, intercept, explained = growth.fit([1, 2, 3], [2, 3, 4.5])
    assert (slope, intercept) == pytest.approx((1.25, 2 / 3))
    left = (2 - 1.25 - 2 / 3) ** 2 + (3 - 2.5 - 2 / 3) ** 2 + (4.5 - 3.75 - 2 / 3) ** 2
    whole = sum((y - 9.5 / 3) ** 2 for y in (2, 3, 4.5))
    assert explained == pytest.approx(1 - left / whole)
    assert math.isnan(growth.fit([1, 2], [1, 2])[2]) and math.isnan(growth.fit([1, 2, 3], [4, 4, 4])[2])


def test_rates_by_hand():
    table = growth.summarise(RECORDS)
    first, other, pairs, two = (table.iloc[i] for i in (0, 3, 8, 9))
    assert (first["tokens_a_document"], first["seconds_a_document"]) == (1100 / 50, 6 / 50)
    # 0.1 seconds and 20 tokens a document.
    assert (first["milliseconds_a_token"], first["explained"]) == pytest.approx((5, 1))
    assert first["fitted"] == pytest.approx(6)
    assert other["milliseconds_a_token"] == pytest.approx(0, abs=1e-9) and math.isnan(other["explained"])
    slope = ((-5 / 3) * -5 + (1 / 3) * 0 + (4 / 3) * 5) / ((25 + 1 + 16) / 9)  # in seconds a thousand tokens
    assert pairs["milliseconds_a_token"] == pytest.approx(slope)
    assert pairs["fitted"] == pytest.approx(8 + slope * 4 / 3) and pairs["tokens_a_document"] == 1000
    assert two["milliseconds_a_token"] == pytest.approx(2.5) and math.isnan(two["explained"])


def test_the_figure_shows_what_was_measured():
    fig = growth.draw(growth.summarise(RECORDS))
    above, below = fig.axes[0], fig.axes[len(growth.SWEEPS)]
    marks = [drawn for drawn in above.lines if drawn.get_linestyle() == "None"]
    assert [list(drawn.get_ydata()) for drawn in marks] == [[1.1, 4.1, 16.1], [2.1, 8.1, 32.1]]
    lines = [drawn for drawn in below.lines if drawn.get_linestyle() != "None"]
    assert list(lines[0].get_xdata()) == [1.1, 4.1, 16.1] and lines[0].get_ydata() == pytest.approx([6, 21, 81])
    hollow = [drawn for drawn in fig.axes[1].lines if drawn.get_markerfacecolor() == "white"]
    assert [list(drawn.get_xdata()) for drawn in hollow] == [[60]]
    assert [axis.get_title() for axis in fig.axes[: len(growth.SWEEPS)]] == ["tiny", "tiny", "", "other"]
    assert "documents, list: 1,100 to 16,100 tokens, 5.00 ms a token, 1.0000 explained" in fig.alt
    assert "of other and tiny" in fig.alt


def test_files_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    lines = growth.write(RECORDS)
    folder = tmp_path / "figures" / "bench"
    assert lines[["sweep", "view"]].to_numpy().tolist()[:2] == [["documents", "list"], ["documents", "unary"]]
    assert all((folder / f"growth.{kind}").exists() for kind in ("png", "pdf", "json"))
    table = pd.read_csv(folder / "growth.csv")
    assert len(table) == len(RECORDS) and np.allclose(table["fitted"][:3], [6, 21, 81])
