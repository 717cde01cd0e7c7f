"""Fig. 6: the share of multi-label answers against the share of multi-label demonstrations."""

import pandas as pd
from matplotlib.figure import Figure

from mlutils.reporting.figures import COLUMN, TEXT
from mlutils.reporting.looks import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title

LINES = [(BLUE, "o", "-"), (RED, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"), (PINK, "v", "-"), (SKY, "P", "--")]


def several_by_ratio(table: pd.DataFrame) -> Figure:
    """Returns Fig. 6: a panel a corpus, a line a model, with 95 % intervals; the dashed diagonal follows exactly.

    table: corpus, model, ratio, share, low, high (shares of 1), n. Raises ValueError for no rows or too many models.
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
        for model, (colour, marker, dash) in zip(models, LINES, strict=False):
            rows = table[(table["corpus"] == corpus) & (table["model"] == model)].sort_values("ratio")
            mean = 100 * rows["share"]
            arms = [mean - 100 * rows["low"], 100 * rows["high"] - mean]
            style = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 3.5}
            axis.errorbar(100 * rows["ratio"], mean, arms, elinewidth=0.8, label=plain(model), **style)
        n = int(table.loc[table["corpus"] == corpus, "n"].max())
        axis.set_title(f"{plain(corpus_title(corpus))}, n = {n}")
        axis.set_xlim(-5, 105)
        axis.set_ylim(-4, 104)
        axis.grid(True, axis="y")
        axis.set_xlabel("multi-label demonstrations, %")
    axes[0].set_ylabel("multi-label answers, %")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(3, len(models)))
    return fig
