"""Sets of labels that a model believes in: how many labels it expects, against how many annotators choose."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlutils.reporting.figures import COLUMN
from mlutils.reporting.looks import BLACK, BLUE
from mlutils.reporting.pictures import use_style


def expected_sizes(table: pd.DataFrame) -> Figure:
    """Returns the expected number of labels of each document, with its certified bounds, against the annotators' mean.

    table: chosen (mean number of labels that an annotator chose), low, high (bounds of the model's expected number).
    Points on the dashed line agree; documents of the same `chosen` are spread sideways. Raises ValueError for no rows.
    """
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    use_style()
    fig = Figure(figsize=(COLUMN, 2.4), layout="constrained")
    axis = fig.subplots()
    spread = table.groupby("chosen").cumcount() / table.groupby("chosen")["low"].transform("size") - 0.5
    x, middle = table["chosen"] + 0.22 * spread, (table["low"] + table["high"]) / 2
    arms = np.array([middle - table["low"], table["high"] - middle])
    axis.errorbar(x, middle, arms, fmt="o", color=BLUE, markersize=1.8, elinewidth=0.4, alpha=0.6)
    top = max(table["chosen"].max(), table["high"].max()) + 0.2
    axis.plot([0, top], [0, top], color=BLACK, linestyle="--", linewidth=0.7, zorder=1)
    axis.set_xlim(-0.2, table["chosen"].max() + 0.3)
    axis.set_ylim(0, top)
    axis.grid(True, axis="y")
    axis.set_xlabel("labels an annotator chose, mean")
    axis.set_ylabel("labels the model expects")
    axis.set_title(f"n = {len(table)}")
    return fig
