"""Answers under other demonstrations and other instructions: Fig. 6 and Table 7."""

import pandas as pd

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, plain, told, where
from mlutils.reporting.looks import BLACK
from mlutils.reporting.published import corpus_title
from mlutils.reporting.tables import ABSENT, interval, write_count

SPREAD = 8  # percent of demonstrations that the dots of a share take up
DOTS = {"s": 5, "alpha": 0.35, "linewidths": 0}
ORDERS = {"alphabetical": "alphabetical", "random": "random (3 seeds)", "reversed": "reverse alphabetical"}


def several_by_ratio(table: pd.DataFrame, by_plan: pd.DataFrame) -> Drawing:
    """Returns Fig. 6: a panel a corpus, a line a model, with 95 % intervals; the dashed diagonal follows exactly.

    Light dots are the plans of demonstrations one by one, beside each other in their order, model by model; a plan that
    a single document was shown is none. table: corpus, model, ratio, share, low, high (shares of 1), n, different,
    plans; by_plan: corpus, model, ratio, plan, share, n. Raises ValueError for no rows or too many models.
    """
    table = drawing.check(table, "corpus", "model", "ratio", "share", "low", "high", "n", "different", "plans")
    models, corpora = (table[column].unique() for column in ("model", "corpus"))
    looks = drawing.cycle(models, "models")
    fig, axes = drawing.panels(corpora, len(corpora), 2.5, 0, sharey=True)
    for corpus, axis in axes.items():
        axis.plot([0, 100], [0, 100], color=BLACK, linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
        for number, (model, style) in enumerate(looks.items()):
            rows, plans = (where(each, corpus=corpus, model=model).sort_values("ratio") for each in (table, by_plan))
            plans = plans[plans["n"] > 1]
            place = (plans["plan"] + 0.5) / (plans["plan"].max() + 1)
            beside = SPREAD * ((number + place) / len(models) - 0.5)
            axis.scatter(100 * plans["ratio"] + beside, 100 * plans["share"], color=style["color"], **DOTS)
            share, *ends = 100 * rows[["share", "low", "high"]].T.to_numpy()
            style = style | dict(markersize=3.5, label=plain(model))
            drawing.intervals(axis, 100 * rows["ratio"], share, y_ends=ends, **style)
        n, plans = table.loc[table["corpus"] == corpus, ["n", "plans"]].max()
        least, most = table.loc[table["corpus"] == corpus, "different"].agg(["min", "max"])
        title = f"{plain(corpus_title(corpus))}, n = {n}, {plans} plan{'s' if plans > 1 else ''}"
        axis.set_title(f"{title}\n{least:.1f} to {most:.1f} different answers a share")
        axis.set(xlim=(-5, 105), ylim=(-4, 104))
        drawing.label(axis, "multi-label demonstrations, %", "multi-label answers, %")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    dot = fig.axes[0].scatter([], [], color=BLACK, **DOTS)
    fig.legend([*handles, dot], [*labels, "one plan"], loc="outside lower center", ncols=min(3, len(models) + 1))
    named = "{corpus}, {model}," if len(models) > 1 else "{corpus}"
    fig.alt = (
        "Share of multi-label answers against the share of multi-label demonstrations, a panel a corpus; the mean with "
        "its interval over plans of demonstrations, and each plan as a light dot. "
        + told(table[table["ratio"].isin([0, 1])], named + " at {ratio:.0%} {share:.0%}", "")
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
        order = ORDERS[row["order"]]
        written = {
            column: interval(*(100 * row[name] for name in (column, f"{column}_low", f"{column}_high")), 1)
            for column in ("alphabetical", "instruction", "changed")
        }
        cells = {"Corpus": corpus_title(row["corpus"]), "Model": row["model"], "Instruction": order}
        for column, title in (("alphabetical", "alphabetical, %"), ("instruction", "as instructed, %")):
            value = theirs.loc[order, f"follows_{column}_pct"]
            cells |= {title: written[column], f"paper, {title}": ABSENT if pd.isna(value) else f"{value:.1f}"}
        changed = {
            "set changed, %": written["changed"],
            "of documents": write_count(row["documents"], row["documents_different"]),
        }
        rows.append(cells | {"n": write_count(row["n"], row["different"])} | changed)
    return pd.DataFrame(rows)
