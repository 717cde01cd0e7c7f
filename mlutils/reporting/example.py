"""One document, label step by label step: what the model holds when it begins each label, and what annotators chose."""

import textwrap
from collections.abc import Sequence

import numpy as np

from mlutils.corpora import is_ours
from mlutils.readouts import step_distributions
from mlutils.reporting.drawing import TEXT, Drawing, panels, plain
from mlutils.reporting.looks import BLUE, GREY, ORANGE

LONGEST = 160  # characters of a text that fits into the picture


def find(traces: Sequence) -> tuple | None:
    """Returns a trace and the row of a document to show, None where there is none.

    The trace is the one with most different answers, of a model that is not tuned, on a corpus of ours; the document
    is its first one with a short text, two labels said, and several labels that half of the annotators chose, one of
    them among those said.
    """
    wanted = [t for t in traces if is_ours(t.settings["corpus"]) and "list" in t.settings["views"]]
    wanted = [t for t in wanted if t.settings["shots"] and t.settings["sample"] != "reserve"]
    wanted = [t for t in wanted if "+" not in t.settings["model"] and t.corpus.has_votes.all()]
    for trace in sorted(wanted, key=lambda each: -each.answers["said"].map(tuple).nunique()):
        two = trace.said().sum(axis=1) == 2
        short = trace.documents["text"].str.len().to_numpy() <= LONGEST
        read = (~np.isnan(trace.step_logits()[..., 0])).sum(axis=1) == 2
        several = (trace.gold.sum(axis=1) >= 2) & (trace.gold & trace.said()).any(axis=1)
        if rows := np.flatnonzero(two & short & read & several).tolist():
            return trace, rows[0]
    return None


def draw(trace, row: int) -> Drawing:
    """Returns the distribution at each of two label steps of a document, and its annotators' shares beside."""
    labels, document = [*trace.labels, "none"], trace.documents.iloc[row]
    answers = trace.answers[trace.answers["variant"] == "list"].set_index("document")
    said = list(answers.loc[document["id"], "said"])
    steps = step_distributions(trace.step_logits())[row, :2]  # (2, labels + 1)
    shown = {f"Step {r + 1}: the model writes “{said[r]}”": (steps[r], BLUE, said[r]) for r in (0, 1)}
    shown[f"{document['annotators']:.0f} annotators chose"] = ([*document["votes"], np.nan], ORANGE, None)
    fig, axes = panels(shown, 3, 2.0, 0.4, TEXT, grid="x", sharey=True, sharex=True)
    for title, (values, colour, written) in shown.items():
        axis = axes[title]
        for at, (label, value) in enumerate(zip(labels, values, strict=True)):
            axis.barh(at, value, color=colour, height=0.7, alpha=1.0 if written in (None, label) else 0.4)
            if value >= 0.005:
                axis.text(value + 0.02, at, f"{value:.2f}", va="center", fontsize=6.5, color=GREY)
        axis.set_title(plain(title), loc="left")
        axis.set(xlabel="share" if written is None else "probability", xlim=(0, 1.15), xticks=[0, 0.5, 1])
    axis.set_yticks(range(len(labels)), [plain(label) for label in labels])
    axis.invert_yaxis()
    fig.suptitle(plain(textwrap.fill(f"“{document['text']}” ({trace.settings['model']})", 100)), fontsize=8)
    told = [
        f"{title}: {', '.join(f'{label} {v:.2f}' for label, v in zip(labels, values, strict=True) if v > 0.05)}"
        for title, (values, *_) in shown.items()
    ]
    fig.alt = f"“{document['text']}” ({trace.settings['model']}). {'; '.join(told)}."
    return fig
