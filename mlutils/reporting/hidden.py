"""Probes of hidden states: what the first one knows (Fig. 7 and 15), by layer, and whether another label follows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlutils.readouts.claims import FEWEST
from mlutils.reporting.figures import COLUMN, TEXT
from mlutils.reporting.looks import BLACK, BLUE, GREEN, GREY, ORANGE, PINK
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title


@dataclass(frozen=True)
class Kind:
    """How a measure is written and drawn; `control` names the one that stands hollow beside it."""

    title: str
    colour: str
    marker: str
    control: str = ""
    dash: str = "-"


MEASURES = {
    "perf": Kind("Perf: the model against gold", BLACK, "D"),
    "gold": Kind("Gold: the gold set, from the state", BLUE, "o", "control_gold"),
    "pred": Kind("Pred: what it says, from the state", ORANGE, "s", "control_pred", "--"),
    "pred_2plus": Kind("Pred 2+: without its first label", PINK, "^", "control_pred_2plus", "-."),
}
SOURCES = {
    "state": Kind("from the hidden state", BLUE, "o"),
    "distribution": Kind("from the step distribution", ORANGE, "s"),
    "first_label": Kind("from the first label alone", GREEN, "^"),
}
NOTHING = {"pred_2plus": "no second label to find"}


def probe_dots(table: pd.DataFrame) -> Figure:
    """Returns Fig. 7 and 15: micro F1 of the probes as dots with intervals, a panel a corpus, a row of panels a model.

    table: model, corpus, measure, value, low, high, n, train. Hollow grey marks are probes whose training labels were
    shuffled, the green one tells later labels from the first label's name alone; a measure that nothing was there for
    says so. Raises ValueError for no rows and for missing columns.
    """
    _check(table, "model", "corpus", "measure", "value", "low", "high", "n", "train")
    shown = [name for name in MEASURES if name in set(table["measure"])]
    fig, panels = _panels(table, 0.24 * len(shown) + 0.9, 0.5)
    for axis, rows in panels:
        for place, name in enumerate(shown):
            kind = MEASURES[name]
            control = rows[rows["measure"] == kind.control]
            _draw(axis, control, place + 0.22, GREY, kind.marker, "none")
            named = rows[rows["measure"] == f"first_label_{name.removeprefix('pred_')}"]
            _draw(axis, named, place + 0.36, GREEN, "P", "none")
            if not _draw(axis, rows[rows["measure"] == name], place - 0.08, kind.colour, kind.marker):
                words = NOTHING.get(name, "nothing to find") if name in set(rows["measure"]) else "not defined"
                axis.text(0.03, place, words, va="center", fontsize=6.5, style="italic", color=GREY)
        axis.set_yticks(range(len(shown)), [MEASURES[name].title for name in shown])
        axis.set_ylim(len(shown) - 0.4, -0.5)
        axis.set_xlim(-0.03, 1.03)
        axis.grid(True, axis="x")
        axis.set_xlabel("micro F1 (higher is better)")
    grey = dict(color=GREY, fillstyle="none", linestyle="none")
    handles = [
        Line2D([], [], marker="o", color=BLACK, linestyle="none", label="probe (interval over documents)"),
        Line2D([], [], marker="o", label="control: training labels shuffled", **grey),
        Line2D([], [], marker="P", label="from the first label's name alone", **grey | {"color": GREEN}),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2 if len(panels) > 1 else 1)
    return fig


def following_dots(table: pd.DataFrame) -> Figure:
    """Returns how well "another label will follow" is told at the first label, as AUC: a panel a model and corpus (C3).

    table: model, corpus, source, value, low, high, n, follow. The dashed line is chance; marks are hollow where fewer
    than ten documents are of one kind. Raises ValueError as `probe_dots`, and where no row has a value.
    """
    _check(table, "model", "corpus", "source", "value", "low", "high", "n", "follow")
    table = table[table["source"].isin(SOURCES) & table["value"].notna()]
    if table.empty:
        raise ValueError("no model and corpus has documents with and without another label: there is nothing to draw")
    fig, panels = _panels(table, 0.2 * len(SOURCES) + 0.9, 0.0, "follow")
    for axis, rows in panels:
        few = min(rows["follow"].iloc[0], (rows["n"] - rows["follow"]).iloc[0]) < FEWEST
        if few:
            axis.set_title(f"{axis.get_title()}: too few to tell")
        for place, (name, kind) in enumerate(SOURCES.items()):
            _draw(axis, rows[rows["source"] == name], place, kind.colour, kind.marker, "none" if few else "full")
        axis.axvline(0.5, color=BLACK, linestyle="--", linewidth=0.7, zorder=1)
        axis.set_yticks(range(len(SOURCES)), [kind.title for kind in SOURCES.values()])
        axis.set_ylim(len(SOURCES) - 0.5, -0.5)
        axis.set_xlim(min(0.4, table["low"].min() - 0.02), 1.02)
        axis.grid(True, axis="x")
        axis.set_xlabel("AUC (dashed: chance)")
    return fig


def layer_lines(table: pd.DataFrame) -> Figure:
    """Returns the probes of Fig. 7 layer by layer as lines with bands of 95 % intervals, a panel a model and corpus.

    table: as `probe_dots` with the column layer, 0 the embeddings. Dotted lines are controls with shuffled labels,
    the grey line is the model itself. Raises ValueError as `probe_dots`.
    """
    _check(table, "model", "corpus", "layer", "measure", "value", "low", "high", "n", "train")
    fig, panels = _panels(table, 1.9, 0.5, narrow=TEXT)
    for axis, rows in panels:
        for name, kind in MEASURES.items():
            line = rows[rows["measure"] == name].sort_values("layer").dropna(subset="value")
            if name == "perf":
                if len(line):
                    axis.axhline(line["value"].iloc[0], color=GREY, linewidth=0.9, zorder=1)
                continue
            style = dict(color=kind.colour, marker=kind.marker, markersize=3)
            axis.plot(line["layer"], line["value"], linestyle=kind.dash, **style)
            axis.fill_between(line["layer"], line["low"], line["high"], color=kind.colour, alpha=0.15, linewidth=0)
            control = rows[rows["measure"] == kind.control].sort_values("layer")
            axis.plot(control["layer"], control["value"], linestyle=":", **style | {"fillstyle": "none"}, linewidth=0.8)
        drawn = set(rows.dropna(subset="value")["measure"])
        if holes := [kind.title.partition(":")[0] for name, kind in MEASURES.items() if name not in drawn]:
            words = f"{', '.join(holes)}: nothing to find"
            axis.text(0.02, 0.72, words, transform=axis.transAxes, fontsize=6.5, style="italic", color=GREY)
        axis.set_xlabel("after layer (0: embeddings)")
        axis.set_ylabel("micro F1")
        axis.set_ylim(-0.03, 1.03)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(True, axis="y")
    handles = [
        Line2D([], [], color=kind.colour, marker=kind.marker, markersize=3, linestyle=kind.dash, label=kind.title)
        for name, kind in MEASURES.items()
        if name != "perf"
    ]
    handles.append(Line2D([], [], color=GREY, label=MEASURES["perf"].title))
    hollow = dict(marker="o", fillstyle="none", markersize=3)
    handles.append(Line2D([], [], color=BLACK, linestyle=":", label="controls: training labels shuffled", **hollow))
    beside = len(panels) == 1
    fig.legend(
        handles=handles, loc="outside right center" if beside else "outside lower center", ncols=1 + (not beside)
    )
    return fig


def _check(table: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")


def _panels(table: pd.DataFrame, height: float, legend: float, counted: str = "train", narrow: float = COLUMN):
    """Returns a figure, and pairs of an axis and the rows of a model and corpus; at most three panels in a row."""
    use_style()
    table = table.assign(documents=table.get("documents", ""))
    groups = list(table.groupby(["model", "corpus", "documents"], sort=False))
    keys = [key for key, _ in groups]
    columns = 2 if len(keys) == 4 else min(3, len(keys))
    lines = -(-len(keys) // columns)
    fig = Figure(figsize=(TEXT if columns > 1 else narrow, height * lines + legend), layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False, sharey=True)
    panels = []
    for axis, ((model, corpus, documents), rows) in zip(axes.flat, groups, strict=False):
        first = rows.iloc[0]
        also = {"follow": f"{first[counted]} with another label", "train": f"trained on {first[counted]}"}[counted]
        name = model.rpartition("/")[2]  # a hub id without its owner
        several = sum(key[:2] == (model, corpus) for key in keys) > 1
        which = f" ({plain(documents)})" if several else ""
        axis.set_title(f"{plain(name)}\n{plain(corpus_title(corpus))}{which}\nn = {first['n']}, {also}")
        panels.append((axis, rows))
    for axis in axes.flat[len(keys) :]:
        axis.remove()
    return fig, panels


def _draw(axis, rows: pd.DataFrame, place: float, colour: str, marker: str, fill: str = "full") -> bool:
    """Draws one row as a dot with its interval; returns whether there was a value."""
    if rows.empty or np.isnan(rows["value"].iloc[0]):
        return False
    row = rows.iloc[0]
    arms = np.array([[row["value"] - row["low"]], [row["high"] - row["value"]]]).clip(0)
    mark = dict(marker=marker, color=colour, fillstyle=fill, linestyle="none", elinewidth=0.8)
    axis.errorbar(row["value"], place, xerr=arms, clip_on=False, **mark)
    return True
