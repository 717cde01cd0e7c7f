"""Label steps by decoding head: what the later heads of Medusa hold where the base model says a label (Fig. 16).

A later head has no reading of a label that is said too early in the answer, so its steps are read row by row and never
as a padded grid, where a gap before a step is refused.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import entropy

from mlutils import metrics
from mlutils.readouts.steps import name_models
from mlutils.traces import matrix

NAME = r"^medusa-head=(\d+)$"  # the variants of the view medusa
MEASURES = ("first", "second", "entropy", "said_is_top1")
COLUMNS = ["head", "step", "last", "measure", "mean", "low", "high", "n", "base", "missing"]


def read(trace) -> pd.DataFrame:
    """Returns one row a label step and head: document, head, step, last, and the MEASURES (Fig. 16).

    `last` tells whether no label follows in the answer; `first` and `second` are the two largest step probabilities,
    `entropy` is in bits over the labels and none, `said_is_top1` tells whether the head's most probable label is the
    one said (of equals, the first in the order of the labels). Raises ValueError for a trace without the view medusa.
    """
    numbers = trace.steps["variant"].str.extract(NAME, expand=False)
    if "medusa" not in trace.settings["views"]:
        raise ValueError(
            f"{trace.folder} has no view medusa: trace a model with Medusa heads with asked=[list, medusa]"
        )
    steps = trace.steps[numbers.notna()].assign(head=numbers.dropna().astype(int))
    names = [*trace.labels, "none"]
    shares = softmax(matrix(steps["logits"], len(names)), axis=1)  # (steps, L + 1)
    largest = np.sort(shares, axis=1)[:, ::-1]
    base = steps[steps["head"] == 0]
    final = steps["document"].map(base.groupby("document")["step"].max())
    return pd.DataFrame(
        {
            "document": steps["document"],
            "head": steps["head"],
            "step": steps["step"],
            "last": steps["step"] == final,
            "first": largest[:, 0],
            "second": largest[:, 1],
            "entropy": entropy(shares, axis=1, base=2),
            "said_is_top1": shares.argmax(axis=1) == steps["label"].map(names.index).to_numpy(int),
        }
    ).reset_index(drop=True)


def gather(traces: Sequence, reading: Callable = read) -> pd.DataFrame:
    """Returns the rows of `read` (or of `tabulate`) of several traces, with model and corpus; traces without the view
    medusa have none. Raises ValueError as `steps.name_models` does.
    """
    frames = [
        reading(trace).assign(model=name, corpus=trace.settings["corpus"])
        for name, trace in zip(name_models(traces), traces, strict=True)
        if "medusa" in trace.settings["views"]
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"head": []})


def tabulate(trace) -> pd.DataFrame:
    """Returns each head's label steps in numbers (Fig. 16), rows of COLUMNS.

    `measure` is one of MEASURES; the interval is a bootstrap over the n documents that the head can read at that step.
    `base` is the mean of head 0 over the same documents; `missing` counts the documents whose step the head cannot
    read. A head that can read none of them has NaN and n = 0. Raises ValueError as `read` does.
    """
    steps = read(trace).set_index("document")
    rows, heads = [], sorted(steps["head"].unique())
    for (step, last), here in steps[steps["head"] == 0].groupby(["step", "last"]):
        for head in heads:
            held = steps[(steps["head"] == head) & (steps["step"] == step) & (steps["last"] == last)]
            for measure in MEASURES:
                told = metrics.bootstrap(held[measure]) if len(held) else (np.nan,) * 3
                base = here.loc[held.index, measure].mean() if len(held) else np.nan
                rows.append([head, step, last, measure, *told, len(held), base, len(here) - len(held)])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["head", "step", "last"], kind="stable", ignore_index=True)
