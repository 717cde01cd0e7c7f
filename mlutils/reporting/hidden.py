"""Probes of hidden states: what the first one knows (Fig. 7 and 15), by layer, and whether another label follows."""

import pandas as pd

from mlutils.readouts.claims import FEWEST
from mlutils.reporting import drawing
from mlutils.reporting.drawing import COLUMN, TEXT, Drawing, dots, handle, line, plain, told, where
from mlutils.reporting.looks import BLACK, BLUE, GREEN, GREY, ORANGE, PINK
from mlutils.reporting.published import corpus_title

MEASURES = {  # title and style
    "perf": ("Perf: the model against gold", line(BLACK, "D")),
    "gold": ("Gold: the gold set, from the state", line(BLUE, "o")),
    "pred": ("Pred: what it says, from the state", line(ORANGE, "s", "--")),
    "pred_2plus": ("Pred 2+: without its first label", line(PINK, "^", "-.")),
}
PROBES = {name: kind for name, kind in MEASURES.items() if name != "perf"}
SOURCES = {
    "state": ("from the hidden state", line(BLUE, "o")),
    "distribution": ("from the step distribution", line(ORANGE, "s")),
    "first_label": ("from the first label alone", line(GREEN, "^")),
}
CONTROL = {"color": GREY, "fillstyle": "none"}  # hollow, in the measure's marker
DOTTED = {"linestyle": ":", "fillstyle": "none", "markersize": 3}  # controls by layer
NAMED = line(GREEN, "P", fillstyle="none")
VALUE = "{value:.2f} on {corpus} ({model})"
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
            _, style = MEASURES[name]
            named = f"first_label_{name.removeprefix('pred_')}"
            _dot(axis, where(rows, measure=f"control_{name}"), place + 0.22, style | CONTROL)
            _dot(axis, where(rows, measure=named), place + 0.36, NAMED)
            if not _dot(axis, where(rows, measure=name), place - 0.08, style):
                words = NOTHING.get(name, "nothing to find") if name in set(rows["measure"]) else "not defined"
                axis.text(0.03, place, words, va="center", **WORDS)
        axis.set_yticks(range(len(shown)), [MEASURES[name][0] for name in shown])
        axis.set(xlim=(-0.03, 1.03), ylim=(len(shown) - 0.4, -0.5), xlabel="micro F1 (higher is better)")
    handles = [
        handle("probe (interval over documents)", **dots(line(BLACK, "o"))),
        handle("control: training labels shuffled", **dots(line(GREY, "o"), **CONTROL)),
        handle("from the first label's name alone", **dots(NAMED)),
    ]
    fig.legend_below(handles, 2 if len(panels) > 1 else 1)
    values = told(table[table["measure"].isin(MEASURES)].dropna(subset="value"), "{measure} " + VALUE)
    fig.alt = f"Micro F1 of linear probes with intervals, and of controls: {values}."
    return fig


def following_dots(table: pd.DataFrame) -> Drawing:
    """Returns how well "another label will follow" is told at the first label, as AUC: a panel a model and corpus.

    Ours, not the paper's. table: model, corpus, source, value, low, high, n, follow, different. The dashed line is
    chance; marks are hollow where fewer than ten documents are of one kind. Raises ValueError as `probe_dots`, and
    where no row has a value.
    """
    table = drawing.check(table, "model", "corpus", "source", "value", "low", "high", "n", "follow", "different")
    table = table[table["source"].isin(SOURCES) & table["value"].notna()]
    if table.empty:
        raise ValueError("no model and corpus has documents with and without another label: there is nothing to draw")
    fig, panels = _panels(
        table, 0.2 * len(SOURCES) + 0.9, 0, "{follow} with another label\n({different:.1f} different answers)", grid="x"
    )
    for axis, rows in panels:
        few = min(rows["follow"].iloc[0], (rows["n"] - rows["follow"]).iloc[0]) < FEWEST
        if few:
            axis.set_title(f"{axis.get_title()}: too few to tell")
        for place, (name, (_, style)) in enumerate(SOURCES.items()):
            _dot(axis, where(rows, source=name), place, style | {"fillstyle": "none" if few else "full"})
        axis.axvline(0.5, color=BLACK, linestyle="--", linewidth=0.7, zorder=1)
        axis.set_yticks(range(len(SOURCES)), [title for title, _ in SOURCES.values()])
        left = min(0.4, table["low"].min() - 0.02)
        axis.set(xlim=(left, 1.02), ylim=(len(SOURCES) - 0.5, -0.5), xlabel="AUC (dashed: chance)")
    values = told(table, "{source} " + VALUE)
    fig.alt = f"AUC of telling at the first label that another follows, with intervals: {values}."
    return fig


def layer_lines(table: pd.DataFrame) -> Drawing:
    """Returns the probes of Fig. 7 layer by layer as lines with bands of 95 % intervals, a panel a model and corpus.

    table: as `probe_dots` with the column layer, 0 the embeddings. Dotted lines are controls with shuffled labels,
    the grey line is the model itself. Raises ValueError as `probe_dots`.
    """
    table = drawing.check(table, "model", "corpus", "layer", "measure", "value", "low", "high", "n", "train")
    fig, panels = _panels(table, 1.9, 0.5, narrow=TEXT)
    for axis, rows in panels:
        rows = rows.sort_values("layer").dropna(subset="value")
        for value in where(rows, measure="perf")["value"].head(1):
            axis.axhline(value, color=GREY, linewidth=0.9, zorder=1)
        for name, (_, style) in PROBES.items():
            probe, control = where(rows, measure=name), where(rows, measure=f"control_{name}")
            axis.plot(probe["layer"], probe["value"], markersize=3, **style)
            band = dict(color=style["color"], alpha=0.15, linewidth=0)
            axis.fill_between(probe["layer"], probe["low"], probe["high"], **band)
            axis.plot(control["layer"], control["value"], **style | DOTTED, linewidth=0.8)
        drawn = set(rows["measure"])
        if holes := [title.partition(":")[0] for name, (title, _) in MEASURES.items() if name not in drawn]:
            axis.text(0.02, 0.72, f"{', '.join(holes)}: nothing to find", transform=axis.transAxes, **WORDS)
        axis.set(xlabel="after layer (0: embeddings)", ylabel="micro F1", ylim=(-0.03, 1.03))
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles = [handle(title, markersize=3, **style) for title, style in PROBES.values()]
    handles.append(handle(MEASURES["perf"][0], color=GREY))
    handles.append(handle("controls: training labels shuffled", **line(BLACK, "o") | DOTTED))
    if len(panels) == 1:
        fig.legend(handles=handles, loc="outside right center", ncols=1)
    else:
        fig.legend_below(handles, 2)
    found = table[table["measure"].isin(PROBES)].dropna(subset="value")
    best = found.loc[found.groupby(["model", "corpus", "measure"], sort=False)["value"].idxmax()]
    layers = told(best, "{measure} {value:.2f} after layer {layer}, {corpus} ({model})")
    fig.alt = f"Micro F1 of probes by layer, with bands and controls. Best layers: {layers}."
    return fig


def _panels(table, height, room, also="trained on {train}", narrow=COLUMN, grid="y"):
    """Returns a figure, and pairs of an axis and the rows of a model and corpus; at most three panels in a row."""
    table = table.assign(documents=table.get("documents", ""))
    groups = dict(list(table.groupby(["model", "corpus", "documents"], sort=False)))
    columns = 2 if len(groups) == 4 else min(3, len(groups))
    fig, axes = drawing.panels(groups, columns, height, room, TEXT if columns > 1 else narrow, grid, sharey=True)
    for (model, corpus, documents), axis in axes.items():
        first = groups[model, corpus, documents].iloc[0]
        several = sum(key[:2] == (model, corpus) for key in groups) > 1
        named = corpus_title(corpus) + (f" ({documents})" if several else "")
        # A hub id stands without its owner.
        axis.set_title(plain(f"{model.rpartition('/')[2]}\n{named}\nn = {first['n']}, {also.format(**first)}"))
    return fig, list(zip(axes.values(), groups.values(), strict=True))


def _dot(axis, rows: pd.DataFrame, place: float, style: dict) -> bool:
    """Draws the first row that has a value as a dot with its interval; returns whether there is one."""
    row = rows.dropna(subset="value").head(1)
    if row.empty:
        return False
    drawing.intervals(axis, row["value"], [place], (row["low"], row["high"]), **dots(style, clip_on=False))
    return True
