"""Fig. 6: the share of multi-label answers against the share of multi-label demonstrations."""

import pandas as pd
from matplotlib.figure import Figure

from mlutils.reporting.figures import COLUMN, TEXT
from mlutils.reporting.looks import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title

LINES = [(BLUE, "o", "-"), (RED, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"), (PINK, "v", "-"), (SKY, "P", "--")]
SPREAD = 8  # percent of demonstrations that the dots of a share take up
DOTS = {"s": 5, "alpha": 0.35, "linewidths": 0}


def several_by_ratio(table: pd.DataFrame, by_plan: pd.DataFrame) -> Figure:
    """Returns Fig. 6: a panel a corpus, a line a model, with 95 % intervals; the dashed diagonal follows exactly.

    Light dots are the plans of demonstrations one by one, beside each other in their order, model by model; a plan that
    a single document was shown is none. table: corpus, model, ratio, share, low, high (shares of 1), n, plans; by_plan:
    corpus, model, ratio, plan, share, n. Raises ValueError for no rows or too many models.
    """
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    models, corpora = (list(dict.fromkeys(table[column])) for column in ("model", "corpus"))
    if len(models) > len(LINES):
        raise ValueError(f"{len(models)} models are too many for one figure: give at most {len(LINES)}")
    use_style()
    width = COLUMN if len(corpora) == 1 else TEXT
    fig = Figure(figsize=(width, 2.5), layout="constrained")
    axes = fig.subplots(1, len(corpora), squeeze=False, sharey=True)[0]
    for axis, corpus in zip(axes, corpora, strict=True):
        axis.plot([0, 100], [0, 100], color=BLACK, linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
        for number, (model, (colour, marker, dash)) in enumerate(zip(models, LINES, strict=False)):
            rows, dots = (
                each[(each["corpus"] == corpus) & (each["model"] == model)].sort_values("ratio")
                for each in (table, by_plan)
            )
            dots = dots[dots["n"] > 1]
            place = (dots["plan"] + 0.5) / (dots["plan"].max() + 1)
            beside = SPREAD * ((number + place) / len(models) - 0.5)
            axis.scatter(100 * dots["ratio"] + beside, 100 * dots["share"], color=colour, **DOTS)
            mean = 100 * rows["share"]
            arms = [mean - 100 * rows["low"], 100 * rows["high"] - mean]
            style = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 3.5}
            axis.errorbar(100 * rows["ratio"], mean, arms, elinewidth=0.8, label=plain(model), **style)
        n, plans = table.loc[table["corpus"] == corpus, ["n", "plans"]].max()
        axis.set_title(f"{plain(corpus_title(corpus))}, n = {n}, {plans} plan{'s' if plans > 1 else ''}")
        axis.set_xlim(-5, 105)
        axis.set_ylim(-4, 104)
        axis.grid(True, axis="y")
        axis.set_xlabel("multi-label demonstrations, %")
    axes[0].set_ylabel("multi-label answers, %")
    handles, labels = axes[0].get_legend_handles_labels()
    dot = axes[0].scatter([], [], color=BLACK, **DOTS)
    fig.legend([*handles, dot], [*labels, "one plan"], loc="outside lower center", ncols=min(3, len(models) + 1))
    return fig
