"""Ties: label steps and questions at which different words have exactly the same logit, so that their order is chance.

Ours, not the paper's. Logits of few bits tie often (bfloat16 has eight), those of float32 hardly ever: what is left are
labels that begin with the same token, in traces that tell labels apart by their first tokens only.
"""

import numpy as np

from mlutils.traces import Trace, matrix


def count(trace: Trace, view: str = "list") -> dict[str, int]:
    """Returns how many label steps of a view and how many questions of a trace tie, by what ties."""
    steps = trace.steps[trace.steps["variant"] == view]
    logits = np.sort(matrix(steps["logits"], len(trace.labels) + 1), axis=1)[:, ::-1]  # (steps, labels + 1)
    tied = logits[:, :-1] == logits[:, 1:]
    answers = matrix(trace.questions["logits"], 2)
    return {
        "label steps whose two best labels tie": int(tied[:, 0].sum()),
        "label steps at which some labels tie": int(tied.any(axis=1).sum()),
        "questions whose two answers tie": int((answers[:, 0] == answers[:, 1]).sum()),
    }
