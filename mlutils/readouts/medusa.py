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
from mlutils.readouts import answers
from mlutils.readouts.steps import name_models
from mlutils.traces import matrix

NAME = r"^medusa-head=(\d+)$"  # the variants of the view medusa
MEASURES = ("first", "second", "entropy", "said_is_top1")
COLUMNS = ["head", "step", "last", "measure", "mean", "low", "high", "n", "different", "base", "missing"]


def read(trace, repeats: str = "excluded") -> pd.DataFrame:
    """Returns one row a label step and head: document, head, step, last, answer, and the MEASURES (Fig. 16).

    repeats: as in `steps.tabulate`, by what head 0 reads. `last` tells whether no label follows in the answer; `answer`
    are the different labels of the answer, in their order; `first` and `second` are the two largest step probabilities,
    `entropy` is in bits over the labels and none, `said_is_top1` tells whether the head's most probable label is the
    one said (of equals, the first in the order of the labels). Raises ValueError for a trace without the view medusa.
    """
    numbers = trace.steps["variant"].str.extract(NAME, expand=False)
    if "medusa" not in trace.settings["views"]:
        raise ValueError(
            f"{trace.folder} has no view medusa: trace a model with Medusa heads with asked=[list, medusa]"
        )
    steps = trace.steps[numbers.notna()].assign(head=numbers.dropna().astype(int))
    base = steps[steps["head"] == 0]
    numbers = base.set_index(["document", "step"]).assign(number=answers.number_steps(base, repeats).to_numpy())[
        "number"
    ]
    said = base[base["label"] != "none"].sort_values("step").drop_duplicates(["document", "label"])
    said = said.groupby("document")["label"].agg(tuple)
    steps["step"] = numbers.reindex(pd.MultiIndex.from_frame(steps[["document", "step"]])).to_numpy()
    steps = steps[steps["step"] > 0]
    names = [*trace.labels, "none"]
    shares = softmax(matrix(steps["logits"], len(names)), axis=1)  # (steps, L + 1)
    largest = np.sort(shares, axis=1)[:, ::-1]
    final = steps["document"].map(numbers.groupby("document").max())
    return pd.DataFrame(
        {
            "document": steps["document"],
            "head": steps["head"],
            "step": steps["step"],
            "last": steps["step"] == final,
            "answer": [said.get(document, ()) for document in steps["document"]],
            "first": largest[:, 0],
            "second": largest[:, 1],
            "entropy": entropy(shares, axis=1, base=2),
            "said_is_top1": shares.argmax(axis=1) == steps["label"].map(names.index).to_numpy(int),
        }
    ).reset_index(drop=True)


def gather(traces: Sequence, reading: Callable = read, repeats: str = "excluded") -> pd.DataFrame:
    """Returns the rows of `read` (or of `tabulate`) of several traces, with model and corpus; traces without the view
    medusa have none. Raises ValueError as `steps.name_models` does.
    """
    frames = [
        reading(trace, repeats).assign(model=name, corpus=trace.settings["corpus"])
        for name, trace in zip(name_models(traces), traces, strict=True)
        if "medusa" in trace.settings["views"]
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"head": []})


def tabulate(trace, repeats: str = "excluded") -> pd.DataFrame:
    """Returns each head's label steps in numbers (Fig. 16), rows of COLUMNS.

    `measure` is one of MEASURES; the interval is a bootstrap over the n documents that the head can read at that step,
    `different` the effective number of different answers to them. `base` is the mean of head 0 over the same documents;
    `missing` counts the documents whose step the head cannot read. A head that can read none of them has NaN and n = 0.
    repeats: as in `read`. Raises ValueError as `read` does.
    """
    steps = read(trace, repeats).set_index("document")
    rows, heads = [], sorted(steps["head"].unique())
    for (step, last), here in steps[steps["head"] == 0].groupby(["step", "last"]):
        for head in heads:
            held = steps[(steps["head"] == head) & (steps["step"] == step) & (steps["last"] == last)]
            for measure in MEASURES:
                told = metrics.bootstrap(held[measure]) if len(held) else (np.nan,) * 3
                base = here.loc[held.index, measure].mean() if len(held) else np.nan
                counts = len(held), answers.count_different(held["answer"])
                rows.append([head, step, last, measure, *told, *counts, base, len(here) - len(held)])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["head", "step", "last"], kind="stable", ignore_index=True)
