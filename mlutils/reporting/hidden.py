"""Probes of hidden states: what the first one knows (Fig. 7 and 15), by layer, and whether another label follows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlutils.readouts.claims import FEWEST
from mlutils.reporting import drawing
from mlutils.reporting.drawing import COLUMN, TEXT, Drawing, handle, plain
from mlutils.reporting.looks import BLACK, BLUE, GREEN, GREY, ORANGE, PINK
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
WORDS = dict(fontsize=6.5, style="italic", color=GREY)


def probe_dots(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 7 and 15: micro F1 of the probes as dots with intervals, a panel a corpus, a row of panels a model.

    table: model, corpus, measure, value, low, high, n, train. Hollow grey marks are probes whose training labels were
    shuffled, the green one tells later labels from the first label's name alone; a measure that nothing was there for
    says so. Raises ValueError for no rows and for missing columns.
    """
    table = drawing.check(table, "model", "corpus", "measure", "value", "low", "high", "n", "train")
    shown = [name for name in MEASURES if name in set(table["measure"])]
    fig, panels = _panels(table, 0.24 * len(shown) + 0.9, 0.5, grid="x")
    for axis, rows in panels:
        for place, name in enumerate(shown):
            kind = MEASURES[name]
            _dot(axis, rows[rows["measure"] == kind.control], place + 0.22, GREY, kind.marker, "none")
            named = rows[rows["measure"] == f"first_label_{name.removeprefix('pred_')}"]
            _dot(axis, named, place + 0.36, GREEN, "P", "none")
            if not _dot(axis, rows[rows["measure"] == name], place - 0.08, kind.colour, kind.marker):
                words = NOTHING.get(name, "nothing to find") if name in set(rows["measure"]) else "not defined"
                axis.text(0.03, place, words, va="center", **WORDS)
        axis.set_yticks(range(len(shown)), [MEASURES[name].title for name in shown])
        axis.set(xlim=(-0.03, 1.03), ylim=(len(shown) - 0.4, -0.5), xlabel="micro F1 (higher is better)")
    handles = [
        handle("probe (interval over documents)", marker="o", color=BLACK, linestyle="none"),
        handle("control: training labels shuffled", marker="o", color=GREY, fillstyle="none", linestyle="none"),
        handle("from the first label's name alone", marker="P", color=GREEN, fillstyle="none", linestyle="none"),
    ]
    fig.legend_below(handles, 2 if len(panels) > 1 else 1)
    told = _describe(table[table["measure"].isin(MEASURES)], "measure")
    fig.alt = f"Micro F1 of linear probes with intervals, and of controls: {told}."
    return fig


def following_dots(table: pd.DataFrame) -> Drawing:
    """Returns how well "another label will follow" is told at the first label, as AUC: a panel a model and corpus.

    Ours, not the paper's. table: model, corpus, source, value, low, high, n, follow. The dashed line is chance; marks
    are hollow where fewer than ten documents are of one kind. Raises ValueError as `probe_dots`, and where no row has a
    value.
    """
    table = drawing.check(table, "model", "corpus", "source", "value", "low", "high", "n", "follow")
    table = table[table["source"].isin(SOURCES) & table["value"].notna()]
    if table.empty:
        raise ValueError("no model and corpus has documents with and without another label: there is nothing to draw")
    fig, panels = _panels(table, 0.2 * len(SOURCES) + 0.9, 0.0, "follow", grid="x")
    for axis, rows in panels:
        few = min(rows["follow"].iloc[0], (rows["n"] - rows["follow"]).iloc[0]) < FEWEST
        if few:
            axis.set_title(f"{axis.get_title()}: too few to tell")
        for place, (name, kind) in enumerate(SOURCES.items()):
            _dot(axis, rows[rows["source"] == name], place, kind.colour, kind.marker, "none" if few else "full")
        axis.axvline(0.5, color=BLACK, linestyle="--", linewidth=0.7, zorder=1)
        axis.set_yticks(range(len(SOURCES)), [kind.title for kind in SOURCES.values()])
        left = min(0.4, table["low"].min() - 0.02)
        axis.set(xlim=(left, 1.02), ylim=(len(SOURCES) - 0.5, -0.5), xlabel="AUC (dashed: chance)")
    told = _describe(table, "source")
    fig.alt = f"AUC of telling at the first label that another follows, with intervals: {told}."
    return fig


def layer_lines(table: pd.DataFrame) -> Drawing:
    """Returns the probes of Fig. 7 layer by layer as lines with bands of 95 % intervals, a panel a model and corpus.

    table: as `probe_dots` with the column layer, 0 the embeddings. Dotted lines are controls with shuffled labels,
    the grey line is the model itself. Raises ValueError as `probe_dots`.
    """
    table = drawing.check(table, "model", "corpus", "layer", "measure", "value", "low", "high", "n", "train")
    probed = {name: kind for name, kind in MEASURES.items() if name != "perf"}
    fig, panels = _panels(table, 1.9, 0.5, narrow=TEXT)
    for axis, rows in panels:
        perf = rows.loc[rows["measure"] == "perf", "value"].dropna()
        if len(perf):
            axis.axhline(perf.iloc[0], color=GREY, linewidth=0.9, zorder=1)
        for name, kind in probed.items():
            line = rows[rows["measure"] == name].sort_values("layer").dropna(subset="value")
            style = dict(color=kind.colour, marker=kind.marker, markersize=3)
            axis.plot(line["layer"], line["value"], linestyle=kind.dash, **style)
            axis.fill_between(line["layer"], line["low"], line["high"], color=kind.colour, alpha=0.15, linewidth=0)
            control = rows[rows["measure"] == kind.control].sort_values("layer")
            axis.plot(control["layer"], control["value"], linestyle=":", **style, fillstyle="none", linewidth=0.8)
        drawn = set(rows.dropna(subset="value")["measure"])
        if holes := [kind.title.partition(":")[0] for name, kind in MEASURES.items() if name not in drawn]:
            axis.text(0.02, 0.72, f"{', '.join(holes)}: nothing to find", transform=axis.transAxes, **WORDS)
        axis.set(xlabel="after layer (0: embeddings)", ylabel="micro F1", ylim=(-0.03, 1.03))
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles = [
        handle(kind.title, color=kind.colour, marker=kind.marker, markersize=3, linestyle=kind.dash)
        for kind in probed.values()
    ]
    handles.append(handle(MEASURES["perf"].title, color=GREY))
    dotted = dict(color=BLACK, linestyle=":", marker="o", fillstyle="none", markersize=3)
    handles.append(handle("controls: training labels shuffled", **dotted))
    if len(panels) == 1:
        fig.legend(handles=handles, loc="outside right center", ncols=1)
    else:
        fig.legend_below(handles, 2)
    found = table[table["measure"].isin(probed)].dropna(subset="value")
    best = found.loc[found.groupby(["model", "corpus", "measure"], sort=False)["value"].idxmax()]
    told = [f"{r.measure} {r.value:.2f} after layer {r.layer}, {r.corpus} ({r.model})" for r in best.itertuples()]
    fig.alt = f"Micro F1 of probes by layer, with bands and controls. Best layers: {'; '.join(told)}."
    return fig


def _panels(table, line, room, counted="train", narrow=COLUMN, grid="y"):
    """Returns a figure, and pairs of an axis and the rows of a model and corpus; at most three panels in a row."""
    table = table.assign(documents=table.get("documents", ""))
    groups = dict(list(table.groupby(["model", "corpus", "documents"], sort=False)))
    columns = 2 if len(groups) == 4 else min(3, len(groups))
    fig, axes = drawing.panels(groups, columns, line, room, TEXT if columns > 1 else narrow, grid, sharey=True)
    for (model, corpus, documents), axis in axes.items():
        first = groups[model, corpus, documents].iloc[0]
        also = f"{first['follow']} with another label" if counted == "follow" else f"trained on {first['train']}"
        several = sum(key[:2] == (model, corpus) for key in groups) > 1
        named = corpus_title(corpus) + (f" ({documents})" if several else "")
        # A hub id stands without its owner.
        axis.set_title(plain(f"{model.rpartition('/')[2]}\n{named}\nn = {first['n']}, {also}"))
    return fig, [(axis, groups[key]) for key, axis in axes.items()]


def _dot(axis, rows: pd.DataFrame, place: float, colour: str, marker: str, fill: str = "full") -> bool:
    """Draws one row as a dot with its interval; returns whether there was a value."""
    if rows.empty or np.isnan(rows["value"].iloc[0]):
        return False
    row = rows.iloc[0]
    style = dict(color=colour, marker=marker, fillstyle=fill, clip_on=False)
    drawing.intervals(axis, row["value"], place, row["low"], row["high"], False, **style)
    return True


def _describe(table, column):
    rows = table.dropna(subset="value")
    told = zip(rows[column], rows["value"], rows["corpus"], rows["model"], strict=True)
    return "; ".join(f"{name} {value:.2f} on {corpus} ({model})" for name, value, corpus, model in told)
