"""Figures drawn from tidy tables, in the style of `paper.mplstyle`; `save` writes one (section 9)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlutils.metrics import METRICS
from mlutils.reporting.looks import BLACK, BLUE, GREY, RED, is_drawn, look, order
from mlutils.reporting.pictures import Picture, load, plain, save, use_style
from mlutils.reporting.published import SIZES, corpus_title

__all__ = [
    "Picture",
    "alignment_bars",
    "alignment_scatter",
    "first_step",
    "label_counts",
    "load",
    "look",
]
__all__ += ["plain", "save", "use_style"]

COLUMN, TEXT = 3.03, 6.30  # widths of an ACL page, inches
PUBLISHED = {"8B": dict(marker="o", markersize=3.6), "70B": dict(marker="s", markersize=5.2)}  # hollow
SCATTER_PUBLISHED = {"8B": 3.6, "70B": 6.0}  # there the marker says the method, the size says the model
LINES = {"noise_floor": "-", "constant_0.1": "--", "uniform": "--", "base_rate": "-."}  # of the scatter
RANKS = 12  # labels that Fig. 4 shows at most: behind them lies nearly nothing


def alignment_scatter(table: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Returns Tables 2 and 5 as a picture: L1 against NLL (log scales), a panel a corpus, a row a model.

    table: corpus, model, method, metric (nll and l1), mean, low, high, n; reference rows have an empty model.
    published: rows of `published.alignment()`, drawn hollow. Lines cross at the noise floor, the constant and the base
    rate. Variants of readouts that are not `looks.is_drawn` stand in tables only.
    """
    table = _tidy(table, "corpus", "method", "metric", "mean", "low", "high", "n")
    table = table[table["method"].map(is_drawn)]
    corpora, models = _names(table, "corpus"), [m for m in _names(table, "model") if m] or [""]
    published = published[published["corpus"].isin(corpora)] if published is not None else None
    beside = len(corpora) == 1  # a single panel has its legend beside it
    height = 2.1 * len(models) + (1.1 if beside else 1.6)
    fig, axes = _panels(len(models), len(corpora), TEXT, height, sharey="row")
    for (i, model), (j, corpus) in _grid(models, corpora):
        axis, ours = axes[i, j], table[(table["corpus"] == corpus) & table["model"].isin([model, ""])]
        theirs = _rows(published, corpus=corpus)
        for (method, size), values in _by_metric(theirs, "value", ["method", "model"]):
            style = look(method)
            axis.plot(
                values["l1"],
                values["nll"],
                **_hollow(style.colour, style.marker, SCATTER_PUBLISHED[SIZES[size]]),
            )
        for method, values in _by_metric(ours, ["mean", "low", "high"], ["method"]):
            (x, *xs), (y, *ys) = (
                [values[part, metric] for part in ("mean", "low", "high")] for metric in ("l1", "nll")
            )
            if method in LINES:
                for draw, at in ((axis.axvline, x), (axis.axhline, y)):
                    draw(at, color=look(method).colour, linestyle=LINES[method], linewidth=0.6, zorder=1)
                continue
            axis.errorbar(x, y, _arms(y, *ys), _arms(x, *xs), ecolor=look(method).colour, **_mark(method), zorder=3)
        log_axis(axis.yaxis)
        log_axis(axis.xaxis)
        axis.grid(True)
        axis.set_title(_panel_title(ours, corpus))
        axis.set_xlabel(METRICS["l1"].axis_label)
        if j == 0:
            axis.set_ylabel((f"{plain(model)}\n" if len(models) > 1 else "") + METRICS["nll"].axis_label)
    shown = set(table["method"]) | (set(published["method"]) if published is not None else set())
    _legend(
        fig,
        sorted(shown, key=order),
        SCATTER_PUBLISHED if published is not None else {},
        columns=2 if beside else 4,
        place="outside right upper" if beside else "outside lower center",
    )
    return fig


def alignment_bars(table: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Returns Tables 2 and 5 as dots with intervals: a row a method, a panel a metric, a block a corpus.

    table: as `alignment_scatter`, with the metrics nll (log scale), l1 and f1. Published values are hollow
    marks on the same row; reference rows stand apart at the bottom. Methods are those of `looks.is_drawn`.
    """
    table = _tidy(table, "corpus", "method", "metric", "mean", "low", "high", "n")
    table = table[table["method"].map(is_drawn)]
    corpora = _names(table, "corpus")
    metrics = [metric for metric in METRICS if metric in set(table["metric"])]
    keys = {corpus: _row_keys(table, published, corpus) for corpus in corpora}
    heights = [len(rows) + 2.2 for rows in keys.values()]
    fig, axes = _panels(
        len(corpora), len(metrics), TEXT, 0.145 * sum(heights) + 0.4, sharex="col", height_ratios=heights
    )
    several = len([m for m in _names(table, "model") if m]) > 1
    for (i, corpus), (j, metric) in _grid(corpora, metrics):
        axis, ours = axes[i, j], _rows(table, corpus=corpus, metric=metric)
        theirs = _rows(published, corpus=corpus, metric=metric)
        places = _places(keys[corpus])
        for row in ours.itertuples():
            height = places[row.method, row.model]
            axis.errorbar(
                row.mean,
                height,
                xerr=_arms(row.mean, row.low, row.high),
                ecolor=look(row.method).colour,
                **_mark(row.method),
            )
        for row in theirs.itertuples():
            for height in (place for (method, _), place in places.items() if method == row.method):
                size = PUBLISHED[SIZES[row.model]]
                axis.plot(row.value, height, **_hollow("#333333", size["marker"], size["markersize"]), zorder=1.9)
        first_reference = [p for (method, _), p in places.items() if look(method).group == "reference"]
        if first_reference and len(first_reference) < len(places):
            axis.axhline(min(first_reference) - 0.9, color="0.6", linewidth=0.5)
        axis.set_ylim(max(places.values()) + 0.7, -0.7)
        labels = [_row_title(*key, several) for key in places] if j == 0 else []
        axis.set_yticks(list(places.values()), labels or [""] * len(places))
        axis.tick_params(axis="y", length=0)
        axis.grid(True, axis="x")
        if i == len(corpora) - 1:
            axis.set_xlabel(METRICS[metric].axis_label)
        if j == 0:
            axis.set_title(_panel_title(_rows(table, corpus=corpus), corpus), loc="left", fontweight="bold")
        if ours.empty and (theirs is None or theirs.empty):
            axis.text(0.5, 0.5, "no vote shares", transform=axis.transAxes, ha="center", va="center", color=GREY)
    for metric, axis in zip(metrics, axes[-1], strict=True):  # only now: a limit set earlier would stop autoscaling
        log_axis(axis.xaxis) if metric == "nll" else axis.set_xlim(left=0)
    handles = [Line2D([], [], color=GREY, marker="o", linewidth=0.8, label="ours, with 95 % interval")]
    if published is not None:
        handles += [
            Line2D([], [], label=f"published, {size}", **_hollow("#333333", **style))
            for size, style in PUBLISHED.items()
        ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def first_step(table: pd.DataFrame) -> Figure:
    """Returns Fig. 4: label probabilities at the first step, sorted, a line a document, the median thick; the first 12.

    table: corpus, document, probability (one row a label), and model if there are several.
    """
    table = _tidy(table, "corpus", "document", "probability")
    corpora, models = _names(table, "corpus"), _names(table, "model")
    width = TEXT if len(corpora) > 1 else COLUMN
    fig, axes = _panels(len(models), len(corpora), width, 1.5 * len(models) + 0.5, sharey=True)
    for (i, model), (j, corpus) in _grid(models, corpora):
        axis, rows = axes[i, j], _rows(table, corpus=corpus, model=model)
        if rows.empty:
            axis.set_axis_off()
            continue
        lines = [np.sort(values)[::-1] for _, values in rows.groupby("document")["probability"]]
        if len({len(line) for line in lines}) > 1:
            raise ValueError(f"{corpus}: documents have different numbers of labels; a document needs a row a label")
        lines = [line[:RANKS] for line in lines]
        ranks = np.arange(1, len(lines[0]) + 1)
        axis.plot(ranks, np.transpose(lines), color=BLUE, alpha=max(0.06, min(0.5, 12 / len(lines))), linewidth=0.5)
        axis.plot(ranks, np.median(lines, axis=0), color=BLACK, linewidth=1.4, marker="o", markersize=3)
        axis.set_xticks(ranks)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(True, axis="y")
        axis.set_title(f"{plain(corpus_title(corpus))}, n = {len(lines)}")
        if i == len(models) - 1:
            axis.set_xlabel("label rank")
        if j == 0:
            axis.set_ylabel("probability" + (f"\n{plain(model)}" if len(models) > 1 else ""))
    handles = [
        Line2D([], [], color=BLUE, linewidth=0.5, label="one document"),
        Line2D([], [], color=BLACK, linewidth=1.4, marker="o", markersize=3, label="median at each rank"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def label_counts(table: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Returns Table 1 as a picture: percent of documents with 0, 1, 2, 3 or more gold labels.

    table: corpus, labels (0, 1, 2, 3 or "3+"), percent, n, and low, high (percent) if known.
    published: `published.datasets()`, drawn as hollow diamonds (an upper bound as a triangle).
    """
    table = _tidy(table, "corpus", "labels", "percent", "n")
    table["labels"] = table["labels"].astype(str).str.rstrip("+")
    corpora = _names(table, "corpus")
    fig, axes = _panels(1, len(corpora), TEXT if len(corpora) > 2 else COLUMN, 1.9, sharey=True)
    for axis, corpus in zip(axes[0], corpora, strict=True):
        rows = _rows(table, corpus=corpus)
        x = rows["labels"].astype(int)
        axis.bar(x, rows["percent"], width=0.62, color="#9ecae9", edgecolor=BLUE, linewidth=0.6, hatch="////")
        if {"low", "high"} <= set(rows):
            arms = np.array([rows["percent"] - rows["low"], rows["high"] - rows["percent"]])
            axis.errorbar(x, rows["percent"], arms, fmt="none", ecolor=BLACK, elinewidth=0.8)
        for row in _rows(published, corpus=corpus).itertuples():
            if row.statistic.startswith("labels_"):
                at = int(row.statistic[len("labels_")])
                axis.plot(at, row.value, **_hollow(RED, "v" if row.below else "D", 4.5), zorder=3)
                axis.annotate(
                    row.printed,
                    (at, row.value),
                    (5, 3),
                    textcoords="offset points",
                    fontsize=7,
                    color=RED,
                    va="bottom",
                )
        axis.set_xticks(range(4), ["0", "1", "2", "3+"])
        axis.set_ylim(0, 105)
        axis.grid(True, axis="y")
        axis.set_title(_panel_title(rows, corpus))
        axis.set_xlabel("gold labels")
    axes[0, 0].set_ylabel("documents, %")
    handles = [Patch(facecolor="#9ecae9", edgecolor=BLUE, hatch="////", label="ours")]
    if published is not None:
        handles.append(Line2D([], [], label="published", **_hollow(RED, "D", 4.5)))
        handles.append(Line2D([], [], label="published, upper bound", **_hollow(RED, "v", 4.5)))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def _panels(rows, columns, width, height, **options):
    use_style()
    fig = Figure(figsize=(width, height), layout="constrained")  # not pyplot's: nothing stays open, nothing shows twice
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def _tidy(table, *columns):
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    model = table["model"].fillna("").astype(str) if "model" in table else ""
    return table.assign(model=model)


def _names(table, column):
    return list(dict.fromkeys(table[column]))


def _grid(rows, columns):
    return [(row, column) for row in enumerate(rows) for column in enumerate(columns)]


def _rows(table, **values):
    if table is None:
        return pd.DataFrame()
    keep = np.logical_and.reduce([table[column] == value for column, value in values.items()])
    return table[keep]


def _by_metric(rows, values, keys):
    if rows.empty:
        return []
    wide = rows.pivot_table(index=keys, columns="metric", values=values)
    needed = (
        [(part, metric) for part in values for metric in ("nll", "l1")] if isinstance(values, list) else ["nll", "l1"]
    )
    return [
        (key, row) for key, row in wide.iterrows() if all(name in row and np.isfinite(row[name]) for name in needed)
    ]


def _row_keys(table, published, corpus):
    ours = _rows(table, corpus=corpus)
    keys = dict.fromkeys(zip(ours["method"], ours["model"], strict=True))
    methods = {method for method, _ in keys}
    theirs = _rows(published, corpus=corpus)
    keys |= {(method, ""): None for method in (theirs["method"] if len(theirs) else ()) if method not in methods}
    zero_shot_first = lambda key: (look(key[0]).group == "reference", order(key[0]))  # noqa: E731
    return sorted(keys, key=zero_shot_first)


def _places(keys):
    return {key: index + 0.8 * (look(key[0]).group == "reference") for index, key in enumerate(keys)}


def _row_title(method, model, several):
    return plain(look(method).title + (f" · {model}" if several and model else ""))


def _panel_title(rows, corpus):
    numbers = sorted({int(n) for n in rows["n"]})
    many = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    return f"{plain(corpus_title(corpus))}, n = {many}"


def _arms(mean, low, high):
    return None if np.isnan([low, high]).any() else [[max(mean - low, 0)], [max(high - mean, 0)]]


def _mark(method):
    style = look(method)
    return dict(
        color=style.colour,
        marker=style.marker,
        fillstyle=style.fill,
        markeredgecolor=style.colour,
        linestyle="none",
    ) | dict(elinewidth=0.8, markerfacecoloralt="white")


def _hollow(colour, marker, markersize):
    return dict(
        color=colour,
        marker=marker,
        markersize=markersize,
        markerfacecolor="none",
        markeredgewidth=0.8,
        linestyle="none",
    )


def _legend(fig, methods, published, columns, place):
    handles = []
    for method in methods:
        style = look(method)
        if method in LINES:
            line = {"color": style.colour, "linestyle": LINES[method], "linewidth": 0.6}
            handles.append(Line2D([], [], label=style.title, **line))
        else:
            marks = {key: value for key, value in _mark(method).items() if key != "elinewidth"}
            handles.append(Line2D([], [], label=style.title, **marks))
    for size, markersize in published.items():
        handles.append(Line2D([], [], label=f"hollow: published, {size}", **_hollow(GREY, "o", markersize)))
    fig.legend(handles=handles, loc=place, ncols=columns)


def log_axis(axis):
    """Sets an x or y axis to a logarithmic scale with plain numbers."""
    (axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
