"""Fig. 16: the largest step probability by decoding head of a Medusa model."""

import pandas as pd

from mlutils.reporting import drawing, panels
from mlutils.reporting.drawing import Drawing
from mlutils.reporting.published import corpus_title


def largest(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 16: Fig. 2 for each decoding head, heads as columns, corpora (and models, where several) as rows.

    table: as `steps.largest`, with head (`medusa.gather`). Raises ValueError for no rows.
    """
    table = drawing.check(table, "model", "corpus", "head")
    heads, corpora = "head " + table["head"].astype(str), table["corpus"].map(corpus_title)
    if table["model"].nunique() > 1:
        corpora += ", " + table["model"]
    absent = "no step {step}\nthat this head reads"
    fig = panels.shapes(table.assign(model=heads, corpus=corpora), ["first"], "largest probability", absent)
    means = panels.describe(table.assign(corpus=table["corpus"] + ", " + heads), ["first"])
    fig.alt = (
        "Split violins of the largest step probability by decoding head, last against intermediate steps. "
        f"Means: {means}."
    )
    return fig
