"""Answers under other demonstrations and other instructions: Fig. 6 and Table 7."""

import numpy as np
import pandas as pd

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, plain, where
from mlutils.reporting.looks import BLACK
from mlutils.reporting.published import corpus_title
from mlutils.reporting.tables import ABSENT, MISSING

SPREAD = 8  # percent of demonstrations that the dots of a share take up
DOTS = {"s": 5, "alpha": 0.35, "linewidths": 0}
ORDERS = {"alphabetical": "alphabetical", "random": "random (3 seeds)", "reversed": "reverse alphabetical"}


def several_by_ratio(table: pd.DataFrame, by_plan: pd.DataFrame) -> Drawing:
    """Returns Fig. 6: a panel a corpus, a line a model, with 95 % intervals; the dashed diagonal follows exactly.

    Light dots are the plans of demonstrations one by one, beside each other in their order, model by model; a plan that
    a single document was shown is none. table: corpus, model, ratio, share, low, high (shares of 1), n, plans; by_plan:
    corpus, model, ratio, plan, share, n. Raises ValueError for no rows or too many models.
    """
    table = drawing.check(table, "corpus", "model", "ratio", "share", "low", "high", "n", "plans")
    models, corpora = (table[column].unique() for column in ("model", "corpus"))
    looks = drawing.cycle(models, "models")
    fig, axes = drawing.panels(corpora, len(corpora), 2.5, 0, sharey=True)
    for corpus, axis in axes.items():
        axis.plot([0, 100], [0, 100], color=BLACK, linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
        for number, (model, (colour, marker, dash)) in enumerate(looks.items()):
            rows, dots = (where(each, corpus=corpus, model=model).sort_values("ratio") for each in (table, by_plan))
            dots = dots[dots["n"] > 1]
            place = (dots["plan"] + 0.5) / (dots["plan"].max() + 1)
            beside = SPREAD * ((number + place) / len(models) - 0.5)
            axis.scatter(100 * dots["ratio"] + beside, 100 * dots["share"], color=colour, **DOTS)
            shares = 100 * rows[["share", "low", "high"]].T.to_numpy()
            style = dict(color=colour, marker=marker, linestyle=dash, markersize=3.5, label=plain(model))
            drawing.intervals(axis, 100 * rows["ratio"], *shares, **style)
        n, plans = table.loc[table["corpus"] == corpus, ["n", "plans"]].max()
        axis.set_title(f"{plain(corpus_title(corpus))}, n = {n}, {plans} plan{'s' if plans > 1 else ''}")
        axis.set(xlim=(-5, 105), ylim=(-4, 104), xlabel="multi-label demonstrations, %")
        if drawing.is_left(axis):
            axis.set_ylabel("multi-label answers, %")
    first = next(iter(axes.values()))
    handles, labels = first.get_legend_handles_labels()
    dot = first.scatter([], [], color=BLACK, **DOTS)
    fig.legend([*handles, dot], [*labels, "one plan"], loc="outside lower center", ncols=min(3, len(models) + 1))
    ends = table[table["ratio"].isin([0, 1])]
    several = len(models) > 1
    told = [f"{r.corpus}{f', {r.model},' if several else ''} at {r.ratio:.0%} {r.share:.0%}" for r in ends.itertuples()]
    fig.alt = (
        "Share of multi-label answers against the share of multi-label demonstrations, a panel a corpus; the mean with "
        f"its interval over plans of demonstrations, and each plan as a light dot. {'; '.join(told)}"
    )
    return fig


def label_order(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 7 to read: for each corpus, model and order of the instruction our percents, the paper's beside.

    table: of `variants.compare_orders`, with model and corpus; published: `published.label_order()`. Ours with 95 %
    intervals, an en dash where a share is not known.
    """
    theirs = published.set_index("instruction_order")
    rows = []
    for row in table.to_dict("records"):
        paper = theirs.loc[ORDERS[row["order"]]]
        cells = {"Corpus": corpus_title(row["corpus"]), "Model": row["model"], "Instruction": ORDERS[row["order"]]}
        for column, title in (("alphabetical", "alphabetical, %"), ("instruction", "as instructed, %")):
            value = paper[f"follows_{column}_pct"]
            cells[title] = _percent(row, column)
            cells[f"paper, {title}"] = ABSENT if pd.isna(value) else f"{value:.1f}"
        rows.append(cells | {"n": f"{row['n']:,}", "set changed, %": _percent(row, "changed")})
    return pd.DataFrame(rows)


def _percent(row, column):
    if pd.isna(row[column]):
        return MISSING
    low, high = (100 * row[f"{column}_{end}"] for end in ("low", "high"))
    return f"{100 * row[column]:.1f}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")
