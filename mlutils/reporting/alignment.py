"""Tables 2 and 5 as pictures, and Fig. 8: how well each method matches the annotators."""

from itertools import product

import numpy as np
import pandas as pd

from mlutils.metrics import METRICS, PRINTED
from mlutils.reporting import drawing
from mlutils.reporting.drawing import TEXT, Drawing, handle, hollow, plain, where
from mlutils.reporting.looks import GREY, is_drawn, look, order
from mlutils.reporting.published import SIZES, corpus_title

ENDS = ["mean", "low", "high"]
PUBLISHED = {"8B": hollow("#333333", "o", 3.6), "70B": hollow("#333333", "s", 5.2)}  # of `bars`
SCATTERED = {"8B": 3.6, "70B": 6.0}  # in `scatter` the marker says the method, the size says the model
CROSSING = {"noise_floor": "-", "constant_0.1": "--", "uniform": "--", "base_rate": "-."}  # lines of `scatter`
PAIRWISE = {"binary_breakdown": "probabilities", "binary_breakdown_outcomes": "outcomes (rounded to 0 and 1)"}
APART = 0.16  # of a corpus's width: how far the two marks of Fig. 8 stand from its middle


def scatter(table: pd.DataFrame, published: pd.DataFrame | None) -> Drawing:
    """Returns Tables 2 and 5 as a picture: L1 against NLL (log scales), a panel a corpus, a row a model.

    table: corpus, model, method, metric (nll and l1), mean, low, high, n; reference rows have an empty model.
    published: rows of `published.alignment()`, drawn hollow. Lines cross at the noise floor, the constant and the base
    rate. Variants of readouts that are not `looks.is_drawn` stand in tables only. Raises ValueError for no rows and for
    missing columns.
    """
    table = _drawn(table)
    corpora, models = table["corpus"].unique(), [model for model in table["model"].unique() if model] or [""]
    shown = set(table["method"])
    if published is not None:
        published = published[published["corpus"].isin(corpora)].rename(columns={"value": "mean"})
        shown |= set(published["method"])
    beside = len(corpora) == 1  # a single panel has its legend beside it
    room = 1.1 if beside else 1.6
    fig, axes = drawing.panels(product(models, corpora), len(corpora), 2.1, room, TEXT, "both", sharey="row")
    for (model, corpus), axis in axes.items():
        ours = table[(table["corpus"] == corpus) & table["model"].isin([model, ""])]
        for (method, size), row in _by_metric(where(published, corpus=corpus), ["method", "model"], ["mean"]):
            style = hollow(look(method).colour, look(method).marker, SCATTERED[SIZES[size]])
            axis.plot(row["l1", "mean"], row["nll", "mean"], **style)
        for method, row in _by_metric(ours, ["method"], ENDS):
            (x, *xs), (y, *ys) = row["l1"], row["nll"]
            if method in CROSSING:
                axis.axvline(x, zorder=1, **_crossing(method))
                axis.axhline(y, zorder=1, **_crossing(method))
            else:
                drawing.intervals(axis, x, y, xs, ys, zorder=3, **drawing.mark(method))
        drawing.log_axis(axis.yaxis)
        drawing.log_axis(axis.xaxis)
        axis.set(title=_panel_title(ours, corpus), xlabel=METRICS["l1"].axis_label)
        if drawing.is_left(axis):
            axis.set_ylabel((f"{plain(model)}\n" if len(models) > 1 else "") + METRICS["nll"].axis_label)
    handles = [
        handle(look(method).title, **_crossing(method) if method in CROSSING else drawing.mark(method))
        for method in sorted(shown, key=order)
    ]
    for size, markersize in SCATTERED.items() if published is not None else ():
        handles.append(handle(f"hollow: published, {size}", **hollow(GREY, "o", markersize)))
    if beside:
        fig.legend(handles=handles, loc="outside right upper", ncols=2)
    else:
        fig.legend_below(handles, 4)
    fig.alt = f"L1 against NLL of each method on {_documents(table)}; lines cross at the noise floor."
    return fig


def _crossing(method):
    return dict(color=look(method).colour, linestyle=CROSSING[method], linewidth=0.6)


def _by_metric(rows, keys, values):
    """Returns the keys, and the values by metric, of the rows that have both NLL and L1."""
    if rows.empty:
        return []
    wide = rows.pivot_table(index=keys, columns="metric", values=values).swaplevel(axis=1)
    wide = wide.reindex(columns=pd.MultiIndex.from_product([["nll", "l1"], values]))
    return wide[np.isfinite(wide).all(axis=1)].iterrows()


def bars(table: pd.DataFrame, published: pd.DataFrame | None) -> Drawing:
    """Returns Tables 2 and 5 as dots with intervals: a row a method, a panel a metric, a block a corpus.

    table: as `scatter`, with the metrics nll (log scale), l1 and f1. Published values are hollow marks on the same row;
    reference rows stand apart at the bottom. Methods are those of `looks.is_drawn`. Raises ValueError as `scatter`.
    """
    table = _drawn(table)
    corpora, metrics = table["corpus"].unique(), _metrics(table)
    places = {corpus: _places(table, published, corpus) for corpus in corpora}
    heights = [len(each) + 2.2 for each in places.values()]
    room, options = 0.145 * sum(heights) + 0.4, dict(sharex="col", height_ratios=heights)
    fig, axes = drawing.panels(product(corpora, metrics), len(metrics), 0, room, TEXT, "x", **options)
    several = len(set(table["model"]) - {""}) > 1
    for (corpus, metric), axis in axes.items():
        ours, theirs = (where(rows, corpus=corpus, metric=metric) for rows in (table, published))
        for row in ours.itertuples():
            at, style = places[corpus][row.method, row.model], drawing.mark(row.method)
            drawing.intervals(axis, row.mean, at, (row.low, row.high), **style)
        for row, ((method, _), at) in product(theirs.itertuples(), places[corpus].items()):
            if row.method == method:
                axis.plot(row.value, at, **PUBLISHED[SIZES[row.model]], zorder=1.9)
        reference = [at for (method, _), at in places[corpus].items() if _is_reference(method)]
        if 0 < len(reference) < len(places[corpus]):
            axis.axhline(reference[0] - 0.9, color="0.6", linewidth=0.5)
        axis.set_ylim(max(places[corpus].values()) + 0.7, -0.7)
        names = [look(method).title + (f" · {model}" if several and model else "") for method, model in places[corpus]]
        axis.set_yticks(list(places[corpus].values()), map(plain, names) if drawing.is_left(axis) else [])
        axis.tick_params(axis="y", length=0)
        drawing.label(axis, METRICS[metric].axis_label, "")
        if drawing.is_left(axis):
            axis.set_title(_panel_title(where(table, corpus=corpus), corpus), loc="left", fontweight="bold")
        if ours.empty and theirs.empty:
            drawing.say(axis, "no vote shares")
    for metric in metrics:  # only now: a limit set earlier would stop autoscaling
        axis = axes[corpora[-1], metric]
        drawing.log_axis(axis.xaxis) if metric == "nll" else axis.set_xlim(left=0)
    handles = [handle("ours, with 95 % interval", color=GREY, marker="o", linewidth=0.8)]
    if published is not None:
        handles += [handle(f"published, {size}", **style) for size, style in PUBLISHED.items()]
    fig.legend_below(handles, 3)
    fig.alt = (
        f"Dots with intervals: {_titles(metrics)} of each method on {_documents(table)}; published values are hollow."
    )
    return fig


def _places(table, published, corpus):
    """Returns where the rows of a corpus stand: method, model -> height; the paper's methods have an empty model."""
    ours, theirs = (where(rows, corpus=corpus) for rows in (table, published))
    keys = dict.fromkeys(zip(ours["method"], ours["model"], strict=True))
    keys |= dict.fromkeys((method, "") for method in set(theirs.get("method", ())) - set(ours["method"]))
    ordered = sorted(keys, key=lambda key: (_is_reference(key[0]), order(key[0])))
    return {key: index + 0.8 * _is_reference(key[0]) for index, key in enumerate(ordered)}


def _is_reference(method):
    return look(method).group == "reference"


def outcomes_against_probabilities(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 8: NLL (log scale), L1 and F1 of both variants of the pairwise breakdown, a panel a metric.

    table: as `scatter`, of which the methods of PAIRWISE are drawn; a row of panels a model. A line joins the two marks
    of a corpus. Raises ValueError where a column is missing or a variant is not there.
    """
    table = _drawn(table)
    table = table[table["method"].isin(PAIRWISE)]
    if set(table["method"]) != set(PAIRWISE):
        raise ValueError(f"table has rows of {sorted(set(table['method']))}, the figure needs both of {list(PAIRWISE)}")
    metrics = _metrics(table)
    models, corpora = (table[column].unique().tolist() for column in ("model", "corpus"))
    options = dict(sharex=True, sharey="col")
    fig, axes = drawing.panels(product(models, metrics), len(metrics), 1.75, 0.45, **options)
    for (model, metric), axis in axes.items():
        rows = where(table, model=model, metric=metric)
        means = rows.pivot_table("mean", "corpus", "method").reindex(corpora, columns=list(PAIRWISE))
        for place, pair in enumerate(means.to_numpy()):
            axis.plot([place - APART, place + APART], pair, color="0.6", linewidth=0.7, zorder=1)
        for (method, name), side, fill in zip(PAIRWISE.items(), (-APART, APART), ("full", "none"), strict=True):
            found = where(rows, method=method)
            x = [corpora.index(corpus) + side for corpus in found["corpus"]]
            style = drawing.mark(method) | dict(fillstyle=fill, label=name)
            drawing.intervals(axis, x, found["mean"], y_ends=(found["low"], found["high"]), **style)
        drawing.label(axis, "", plain(model) if len(models) > 1 else "")
    ticks = [_panel_title(where(table, corpus=corpus), corpus, "\n") for corpus in corpora]
    for metric in metrics:
        axes[models[0], metric].set_title(METRICS[metric].axis_label)
        axis = axes[models[-1], metric]  # only now: a limit set earlier would stop autoscaling
        drawing.log_axis(axis.yaxis) if metric == "nll" else axis.set_ylim(bottom=0)
        axis.set_xticks(range(len(corpora)), ticks)
        axis.set_xlim(-0.6, len(corpora) - 0.4)
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    what = "Pairwise breakdown, probabilities against outcomes"
    fig.alt = f"{what}, on {_documents(table)}: {_titles(metrics)} with intervals."
    return fig


def _drawn(table):
    table = drawing.check(table, "corpus", "method", "metric", *ENDS, "n")
    return table[table["method"].map(is_drawn)]


def _metrics(table):
    return [metric for metric in PRINTED if metric in set(table["metric"])]


def _titles(metrics):
    return ", ".join(METRICS[metric].title for metric in metrics)


def _panel_title(rows, corpus, between=", "):
    return plain(corpus_title(corpus)) + between + drawing.counts(rows["n"])


def _documents(table):
    return f"{', '.join(table['corpus'].unique())}, {drawing.counts(table['n'])}"
