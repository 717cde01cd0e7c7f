"""Exact set marginals out of a trace: P(label in the answer's set), P(set), expected number of labels, all bounded.

Ours, not the paper's; the bounds are certified. The view `sets` stores what the model holds after each list that it was
asked about (table `nodes`). The tree is put together here, so that repeats or the step distributions can be treated
differently without a model.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax

from mlutils.sets import Marginals, expand


def from_nodes(
    nodes: pd.DataFrame,
    labels: Sequence[str],
    repeats: str = "kept",
    longest: int | None = None,
    temperature: float = 1.0,
) -> Marginals:
    """Returns the marginals of one document from the rows of `nodes` about it.

    Lists that were not asked about stay open, and widen the bounds. `temperature` divides the logits of the step
    distributions. Raises ValueError for logits that are not finite or lists asked about without a decision to stop.
    """
    number = {label: i for i, label in enumerate(labels)}
    answers = {}
    for prefix, logits, goes_on in zip(nodes["prefix"], nodes["logits"], nodes["goes_on"], strict=True):
        logits = np.asarray(logits, float)
        if not np.isfinite(logits).all():
            raise ValueError(f"the logits after {list(prefix)} are NaN or infinite: trace this document again")
        answers[tuple(number[label] for label in prefix)] = softmax(logits / temperature), 1 - goes_on
    return expand(
        lambda wave: [answers.get(prefix) for prefix in wave],
        len(labels),
        tolerance=0,
        most=1e9,  # all that is stored: only those have continuations
        repeats=repeats,
        longest=longest,
    )


def from_trace(trace, repeats: str = "kept", temperature: float = 1.0) -> list[Marginals]:
    """Returns the marginals of each document of a trace, in order; a document without nodes has bounds 0 and 1."""
    nodes = dict(list(trace.table("nodes").groupby("document", sort=False)))
    none = trace.table("nodes").iloc[:0]
    longest = 1 if trace.single_label else None
    return [
        from_nodes(nodes.get(document, none), trace.labels, repeats, longest, temperature)
        for document in trace.documents["id"]
    ]


def middle(found: Sequence[Marginals]) -> np.ndarray:
    """Returns the middles of the bounds as label probabilities, (D, L)."""
    return np.array([marginals.middle for marginals in found])


def tabulate_sets(found: Sequence[Marginals], documents: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """Returns one row a document and set found: document, labels (list), low, high (bounds of its probability)."""
    rows = [
        [document, [labels[i] for i in sorted(said)], *marginals.set_bounds(said)]
        for document, marginals in zip(documents, found, strict=True)
        for said in sorted(marginals.sets, key=marginals.sets.get, reverse=True)
    ]
    return pd.DataFrame(rows, columns=["document", "labels", "low", "high"])


def tabulate_bounds(found: Sequence[Marginals], documents: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """Returns one row a document and label: document, label, low, high (bounds of its probability)."""
    rows = [
        [document, *row]
        for document, marginals in zip(documents, found, strict=True)
        for row in zip(labels, marginals.low, marginals.high, strict=True)
    ]
    return pd.DataFrame(rows, columns=["document", "label", "low", "high"])


def tabulate_sizes(found: Sequence[Marginals], documents: Sequence[str]) -> pd.DataFrame:
    """Returns one row a document: document, low, high (bounds of the expected number of labels), unresolved, asked."""
    rows = [
        [document, *marginals.size, marginals.unresolved, marginals.asked]
        for document, marginals in zip(documents, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["document", "low", "high", "unresolved", "asked"])


def judge_greedy(found: Sequence[Marginals], said: np.ndarray, documents: Sequence[str]) -> pd.DataFrame:
    """Returns one row a document about the set that the greedy list says: document, low, high, best, verdict.

    said: bool (D, L), the labels in the answer. low, high: bounds of that set's probability; best: the lower bound of
    the most probable other set. The verdict is `best` where no other set can be more probable, `beaten` where one
    certainly is, and `open` where the bounds do not tell.
    """
    rows = []
    for document, marginals, row in zip(documents, found, said, strict=True):
        greedy = frozenset(map(int, np.flatnonzero(row)))
        low, high = marginals.set_bounds(greedy)
        others = [marginals.set_bounds(each) for each in marginals.sets if each != greedy]
        best = max((bounds[0] for bounds in others), default=0.0)
        reach = max([marginals.unresolved, *(high for _, high in others)])  # open: of a set not found yet
        verdict = "best" if low >= reach else "beaten" if best > high else "open"
        rows.append([document, low, high, best, verdict])
    return pd.DataFrame(rows, columns=["document", "low", "high", "best", "verdict"])
