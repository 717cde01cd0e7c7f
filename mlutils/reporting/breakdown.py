"""Fig. 8: the pairwise breakdown with probabilities against outcomes."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlutils.metrics import METRICS
from mlutils.reporting.figures import COLUMN, TEXT, log_axis
from mlutils.reporting.looks import look
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title

METHODS = ("binary_breakdown", "binary_breakdown_outcomes")
SHOWN = ("nll", "l1", "f1")
APART = 0.16  # of a corpus's width: how far the two marks stand from its middle


def outcomes_against_probabilities(table: pd.DataFrame) -> Figure:
    """Returns Fig. 8: NLL (log scale), L1 and F1 of both variants on each corpus, a panel a metric, a row a model.

    table: corpus, method (those of METHODS are drawn), metric, mean, low, high, n, and model if there are several; a
    line joins the two marks of a corpus. Raises ValueError where a column is missing or a variant is not there.
    """
    missing = [column for column in ("corpus", "method", "metric", "mean", "low", "high", "n") if column not in table]
    if missing:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    table = table.assign(model=table["model"].fillna("") if "model" in table else "")
    table = table[table["method"].isin(METHODS)]
    if set(table["method"]) != set(METHODS):
        raise ValueError(f"table has rows of {sorted(set(table['method']))}, the figure needs both of {METHODS}")
    metrics = [metric for metric in SHOWN if metric in set(table["metric"])]
    models, corpora = (list(dict.fromkeys(table[column])) for column in ("model", "corpus"))
    use_style()
    size = (TEXT if len(metrics) > 1 else COLUMN, 1.75 * len(models) + 0.45)
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(len(models), len(metrics), squeeze=False, sharex=True, sharey="col")
    for axis_row, model in zip(axes, models, strict=True):
        for axis, metric in zip(axis_row, metrics, strict=True):
            rows = table[(table["model"] == model) & (table["metric"] == metric)]
            _draw(axis, rows, corpora)
            axis.grid(True, axis="y")
        if len(models) > 1:
            axis_row[0].set_ylabel(plain(model))
    for axis, metric in zip(axes[0], metrics, strict=True):
        axis.set_title(METRICS[metric].axis_label)
    for axis, metric in zip(axes[-1], metrics, strict=True):  # only now: a limit set earlier would stop autoscaling
        log_axis(axis.yaxis) if metric == "nll" else axis.set_ylim(bottom=0)
        axis.set_xticks(range(len(corpora)), [_corpus_label(table, corpus) for corpus in corpora])
        axis.set_xlim(-0.6, len(corpora) - 0.4)
    handles = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    fig.legend(handles=list(handles.values()), labels=list(handles), loc="outside lower center", ncols=2)
    return fig


def _draw(axis, rows: pd.DataFrame, corpora: list[str]) -> None:
    """Draws both variants of a model and metric, side by side on each corpus."""
    means = rows.pivot_table(index="corpus", columns="method", values="mean").reindex(corpora, columns=list(METHODS))
    for place, pair in enumerate(means.to_numpy()):
        axis.plot([place - APART, place + APART], pair, color="0.6", linewidth=0.7, zorder=1)
    for method, side in zip(METHODS, (-APART, APART), strict=True):
        found, style = rows[rows["method"] == method], look(method)
        arms = np.array([found["mean"] - found["low"], found["high"] - found["mean"]]).clip(0)
        axis.errorbar(
            [corpora.index(corpus) + side for corpus in found["corpus"]],
            found["mean"],
            arms,
            color=style.colour,
            marker=style.marker,
            fillstyle="full" if method == METHODS[0] else "none",
            linestyle="none",
            elinewidth=0.8,
            label="probabilities" if method == METHODS[0] else "outcomes (rounded to 0 and 1)",
        )


def _corpus_label(table: pd.DataFrame, corpus: str) -> str:
    numbers = sorted({int(n) for n in table[table["corpus"] == corpus]["n"]})
    return f"{plain(corpus_title(corpus))}\nn = {'-'.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))}"
