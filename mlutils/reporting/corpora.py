"""Table 1 as a picture: how many labels documents have."""

import pandas as pd
from matplotlib.patches import Patch

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, handle, plain, where
from mlutils.reporting.looks import BLACK, BLUE, RED
from mlutils.reporting.published import corpus_title

BAR = dict(facecolor="#9ecae9", edgecolor=BLUE, hatch="////")
TICKS = ("0", "1", "2", "3+")  # numbers of labels


def label_counts(table: pd.DataFrame, published: pd.DataFrame) -> Drawing:
    """Returns Table 1 as a picture: percent of documents with 0, 1, 2, 3 or more gold labels.

    table: corpus, labels (0, 1, 2, 3 or "3+"), percent, low, high, n. published: `published.datasets()`, drawn as
    hollow diamonds (an upper bound as a triangle). Raises ValueError for no rows and for missing columns.
    """
    table = drawing.check(table, "corpus", "labels", "percent", "low", "high", "n")
    table["labels"] = table["labels"].astype(str).str.rstrip("+")
    corpora = table["corpus"].unique()
    fig, axes = drawing.panels(corpora, len(corpora), 1.9, 0, sharey=True)
    words = []
    for corpus, axis in axes.items():
        rows = where(table, corpus=corpus)
        x = rows["labels"].astype(int)
        axis.bar(x, rows["percent"], width=0.62, linewidth=0.6, **BAR)
        drawing.intervals(axis, x, rows["percent"], y_ends=(rows["low"], rows["high"]), fmt="none", ecolor=BLACK)
        for row in where(published, corpus=corpus).itertuples():
            if row.statistic.startswith("labels_"):
                at = int(row.statistic[len("labels_")])
                axis.plot(at, row.value, **drawing.hollow(RED, "v" if row.below else "D", 4.5), zorder=3)
                beside = dict(textcoords="offset points", fontsize=7, color=RED, va="bottom")
                axis.annotate(row.printed, (at, row.value), (5, 3), **beside)
        axis.set_ylim(0, 105)
        axis.set_xticks(range(4), TICKS)
        axis.set_title(f"{plain(corpus_title(corpus))}, {drawing.counts(rows['n'])}")
        drawing.label(axis, "gold labels", "documents, %")
        shares = ", ".join(f"{row.percent:.1f} % have {TICKS[int(row.labels)]}" for row in rows.itertuples())
        words.append(f"{corpus}, {drawing.counts(rows['n'])}. {shares}.")
    handles = [
        Patch(label="ours", **BAR),
        handle("published", **drawing.hollow(RED, "D", 4.5)),
        handle("published, upper bound", **drawing.hollow(RED, "v", 4.5)),
    ]
    fig.legend_below(handles, 3)
    fig.alt = f"Bars: gold labels a document in {' '.join(words)}"
    return fig
