"""How work grows: tokens and CPU seconds against documents, labels, demonstrations and the length of documents."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlutils import files, paths
from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, handle, line
from mlutils.reporting.looks import BLUE, GREEN, ORANGE

SWEEPS = {
    "documents": "documents",
    "labels": "labels",
    "demonstrations": "demonstrations",
    "length": "words a document",
}
VIEWS = {
    "list": ("a greedy list", line(BLUE, "o")),
    "unary": ("one question a label", line(ORANGE, "s")),
    "pairwise": ("one question a pair", line(GREEN, "^")),
}
ROWS = ("thousand tokens", "CPU seconds")


def fit(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Returns the straight line through points by least squares: slope, intercept, share of the variance explained.

    The share is NaN where there are fewer than three points, which say nothing, or y does not vary.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    slope, intercept = np.polyfit(x, y, 1)
    left, all_ = ((y - intercept - slope * x) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return float(slope), float(intercept), float(1 - left / all_) if len(x) > 2 and all_ > 0 else np.nan


def summarise(records: Sequence[Mapping]) -> pd.DataFrame:
    """Returns the measurements, a row each, with the line of seconds on tokens of their sweep and view.

    records: sweep (a name of SWEEPS), view, documents, labels, demonstrations, length, pairs, tokens, passes, seconds
    (CPU), model, products. Added: tokens and seconds a document, milliseconds a token (the slope), fitted (seconds by
    the line), explained (share of the variance).
    """
    table = pd.DataFrame(records)
    for name in ("tokens", "seconds"):
        table[f"{name}_a_document"] = table[name] / table["documents"]
    for _, rows in table.groupby(["sweep", "view"]):
        slope, intercept, explained = fit(rows["tokens"], rows["seconds"])
        table.loc[rows.index, "milliseconds_a_token"] = 1000 * slope
        table.loc[rows.index, "fitted"] = intercept + slope * rows["tokens"]
        table.loc[rows.index, "explained"] = explained
    return table


def draw(table: pd.DataFrame) -> Drawing:
    """Returns a column a sweep: above tokens against what grows, below CPU seconds against tokens, with their lines.

    table: of `summarise`. A hollow mark is a sparse design of pairs.
    """
    table = drawing.check(table, "sweep", "view", "documents", "tokens", "seconds", "fitted", "explained", "pairs")
    fig, axes = drawing.panels([(row, sweep) for row in ROWS for sweep in SWEEPS], len(SWEEPS), 1.7, 0.3, grid="both")
    told = []
    for (row, sweep), axis in axes.items():
        for view, (_, style) in VIEWS.items():
            rows = drawing.where(table, sweep=sweep, view=view).sort_values("tokens" if row == ROWS[1] else sweep)
            if not len(rows):
                continue
            x, y = (rows[sweep], rows["tokens"] / 1000) if row == ROWS[0] else (rows["tokens"] / 1000, rows["seconds"])
            axis.plot(x, rows["fitted"] if row == ROWS[1] else y, **style | {"marker": "", "linewidth": 0.8})
            for sparse, faces in rows.groupby(rows["pairs"] == "sparse"):
                hollow = {"markerfacecolor": "white"} if sparse else {}
                axis.plot(x[faces.index], y[faces.index], **drawing.dots(style, markersize=3.5, **hollow))
            if row == ROWS[1]:
                last = rows.iloc[-1]
                told.append(
                    f"{SWEEPS[sweep]}, {view}: {rows['tokens'].min():,} to {last['tokens']:,} tokens, "
                    f"{last['milliseconds_a_token']:.2f} ms a token, {last['explained']:.4f} explained"
                )
        axis.set(xlabel=SWEEPS[sweep] if row == ROWS[0] else ROWS[0], ylabel=row if sweep == "documents" else "")
        if row == ROWS[0]:
            axis.set_title(_name_models(drawing.where(table, sweep=sweep)))
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    handles = [handle(title, **style | {"markersize": 3.5}) for title, style in VIEWS.values()]
    handles.append(handle("pairs by the sparse design", **drawing.dots(VIEWS["pairwise"][1], markerfacecolor="white")))
    fig.legend_below(handles, 4)
    fig.alt = (
        f"Work of {_name_models(table)} on one core. Above: tokens that went through the model against documents, "
        "labels, demonstrations and words a document. Below: CPU seconds against these tokens, with straight lines by "
        f"least squares. {'; '.join(told)}"
    )
    return fig


def _name_models(rows: pd.DataFrame) -> str:
    return " and ".join(sorted(rows["model"].unique())) if len(rows) else ""


def write(records: Sequence[Mapping]) -> pd.DataFrame:
    """Writes growth.csv and the figure into figures/bench; returns the lines of seconds on tokens, a row each."""
    folder, table = paths.ROOT / "figures" / "bench", summarise(records)
    files.write_csv(folder / "growth.csv", table)
    drawing.save(draw(table), "growth", folder)
    return table.groupby(["sweep", "view"], sort=False)[["milliseconds_a_token", "explained"]].first().reset_index()
