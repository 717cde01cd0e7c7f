"""Fig. 12: every readout of a base model against the same readout of its tuned model."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlutils.metrics import METRICS
from mlutils.reporting.figures import GREY, TEXT, log_axis
from mlutils.reporting.looks import look, order
from mlutils.reporting.pictures import plain, use_style

SHOWN = ("nll", "f1")


def pair_up(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Returns base and tuned rows side by side: base, tuned, method, metric, corpora, and mean, low, high of both.

    table: corpus, documents, model, method, metric, mean, low, high; pairs: base, tuned. Means are over the corpora
    that both have (the paper's are MFRC and GoEmotions); intervals of independent corpora are added in quadrature.
    Raises ValueError where a model of a pair is not in the table, or a pair shares no corpus.
    """
    rows = []
    for base, tuned in pairs:
        sides = [table[table["model"] == name] for name in (base, tuned)]
        for name, side in zip((base, tuned), sides, strict=True):
            if side.empty:
                known = sorted({model for model in table["model"].fillna("") if model})
                raise ValueError(f"Fig. 12: model {name!r} has no rows; traced are {', '.join(known) or 'none'}")
        keys = ["corpus", "documents", "method", "metric"]
        both = sides[0].merge(sides[1], on=keys, suffixes=("_base", "_tuned"))
        if both.empty:
            raise ValueError(
                f"Fig. 12: {base} and {tuned} share no corpus and method: trace both on the same documents"
            )
        for (method, metric), found in both.groupby(["method", "metric"], sort=False):
            row = {"base": base, "tuned": tuned, "method": method, "metric": metric, "corpora": len(found)}
            for side in ("base", "tuned"):
                mean = found[f"mean_{side}"].mean()
                arms = [found[f"{end}_{side}"] - found[f"mean_{side}"] for end in ("low", "high")]
                low, high = (np.sqrt((arm**2).sum()) / len(found) for arm in arms)
                row |= {f"mean_{side}": mean, f"low_{side}": mean - low, f"high_{side}": mean + high}
            rows.append(row)
    return pd.DataFrame(rows)


def base_against_tuned(paired: pd.DataFrame) -> Figure:
    """Returns Fig. 12: NLL (log scale) and example-F1, a row a method; hollow: the base model, full: the tuned one.

    paired: of `pair_up`. A panel row a pair of models.
    """
    use_style()
    pairs = list(dict.fromkeys(zip(paired["base"], paired["tuned"], strict=True)))
    methods = {pair: sorted(set(_of(paired, pair)["method"]), key=order) for pair in pairs}
    height = sum(0.2 * len(each) + 0.9 for each in methods.values())
    fig = Figure(figsize=(TEXT, height), layout="constrained")
    axes = fig.subplots(len(pairs), len(SHOWN), squeeze=False, sharex="col")
    for i, (line, pair) in enumerate(zip(axes, pairs, strict=True)):
        for j, (axis, metric) in enumerate(zip(line, SHOWN, strict=True)):
            rows = _of(paired, pair)
            rows = rows[rows["metric"] == metric]
            for row in rows.itertuples():
                _draw(axis, row, methods[pair].index(row.method))
            titles = [plain(look(method).title) for method in methods[pair]] if j == 0 else []
            axis.set_yticks(range(len(methods[pair])), titles or [""] * len(methods[pair]))
            axis.set_ylim(len(methods[pair]) - 0.4, -0.6)
            axis.grid(True, axis="x")
            if metric == "nll":
                log_axis(axis.xaxis)
            if i == len(pairs) - 1:
                axis.set_xlabel(METRICS[metric].axis_label)
        corpora = int(_of(paired, pair)["corpora"].max())
        title = f"{pair[0]} against {pair[1]}, {corpora} {'corpus' if corpora == 1 else 'corpora'}"
        line[0].set_title(plain(textwrap.fill(title, 100)), loc="left", fontweight="bold")
    handles = [
        Line2D([], [], color=GREY, marker="o", fillstyle=fill, linestyle="none", label=name)
        for fill, name in (("none", "base"), ("full", "tuned"))
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def _of(paired, pair):
    return paired[(paired["base"] == pair[0]) & (paired["tuned"] == pair[1])]


def _draw(axis, row, place):
    style = look(row.method)
    axis.plot([row.mean_base, row.mean_tuned], [place, place], color="0.6", linewidth=0.7, zorder=1)
    for side, shift, fill in (("base", -0.12, "none"), ("tuned", 0.12, "full")):
        mean, low, high = (getattr(row, f"{part}_{side}") for part in ("mean", "low", "high"))
        arms = [[max(mean - low, 0)], [max(high - mean, 0)]]
        marks = {"color": style.colour, "marker": style.marker, "fillstyle": fill, "linestyle": "none"}
        axis.errorbar(mean, place + shift, xerr=arms, elinewidth=0.8, **marks)
