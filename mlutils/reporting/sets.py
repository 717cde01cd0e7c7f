"""Sets of labels that a model believes in: how many labels it expects, against how many annotators choose."""

import numpy as np
import pandas as pd

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing
from mlutils.reporting.looks import BLACK, BLUE


def expected_sizes(table: pd.DataFrame, corpus: str) -> Drawing:
    """Returns the expected number of labels of each document, with its certified bounds, against the annotators' mean.

    table: chosen (mean number of labels that an annotator chose), low, high (bounds of the model's expected number).
    Points on the dashed line agree; documents of the same `chosen` are spread sideways. Raises ValueError for no rows.
    """
    table = drawing.check(table, "chosen", "low", "high")
    fig = Drawing(height=2.4)
    axis = fig.subplots()
    chosen, middle = table["chosen"], (table["low"] + table["high"]) / 2
    spread = table.groupby("chosen").cumcount() / table.groupby("chosen")["low"].transform("size") - 0.5
    style = dict(fmt="o", color=BLUE, markersize=1.8, elinewidth=0.4, alpha=0.6)
    drawing.intervals(axis, chosen + 0.22 * spread, middle, y_ends=(table["low"], table["high"]), **style)
    top = max(chosen.max(), table["high"].max()) + 0.2
    axis.plot([0, top], [0, top], color=BLACK, linestyle="--", linewidth=0.7, zorder=1)
    axis.set(xlim=(-0.2, chosen.max() + 0.3), ylim=(0, top), title=f"n = {len(table)}")
    axis.set(xlabel="labels an annotator chose, mean", ylabel="labels the model expects")
    axis.grid(True, axis="y")
    spearman = chosen.corr(middle, method="spearman") if middle.nunique() > 1 else np.nan
    fig.alt = (
        f"Expected number of labels against the annotators' mean on {corpus}, n = {len(table)}: {middle.mean():.2f} "
        f"against {chosen.mean():.2f} on average, rank correlation {spearman:.2f}."
    )
    return fig
