"""Demonstrations: which documents a prompt shows, as data.

A plan is drawn once from a seed and stored with the run: ids, order and questions. Shared plans show the same
documents to every query, which also lets the engine compute their part of the prompt once. In between stand a few
plans that queries take turns with: how much hangs on which documents are shown can be seen, at little more work.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mlutils import corpora
from mlutils.corpora import Corpus
from mlutils.tracing.answers import NONE

STRATEGIES = ("multilabel", "random", "balanced")


@dataclass(frozen=True)
class Plan:
    """Demonstrations for every query: ids in order, and of each a unary question and a pair of labels."""

    seed: int
    strategy: str
    shared: bool
    ids: tuple[tuple[str, ...], ...]  # a single tuple where shared, else one a query, or fewer that take turns
    questions: tuple[tuple[tuple[str, str, bool], ...], ...]  # (id, label, reasonable), likewise
    pairs: tuple[tuple[tuple[str, str, str, str], ...], ...]  # (id, label at a, label at b, "a" or "b"), likewise

    def of(self, query: int) -> int:
        """Returns the row of `ids`, `questions` and `pairs` that a query is shown: queries take turns."""
        return query % len(self.ids)

    def as_json(self) -> dict:
        """Returns the plan as plain data."""
        return asdict(self)


def pool(corpus: Corpus, **options) -> Corpus:
    """Returns the documents that may be shown as demonstrations for these; options are the corpus's own.

    Training documents that are set aside are not among them, so that they can be asked behind the same demonstrations.
    """
    if corpus.name == "boxes":  # the objects of a split are its labels, and no object is in two splits
        return corpora.load("boxes", "train")
    return corpora.split_training(corpora.training_documents(corpus, **options))[0]


def draw(
    corpus: Corpus,
    shots: int = 10,
    strategy: str = "auto",
    several: float = 0.5,
    none: float = 0.0,
    shared: bool = True,
    queries: int = 1,
    seed: int = 0,
    exclude: Sequence[str] = (),
) -> Plan:
    """Returns a plan of `shots` demonstrations from a corpus (its train split).

    Strategies: `multilabel` (family P: a share `several` with two or more labels, a share `none` without any, the
    rest with exactly one), `random` (family C), `balanced` (single-label sets: evenly over the labels); `auto` takes
    balanced for single-label sets and else multilabel. Documents whose id is in `exclude` are never drawn. Unless
    shared, `queries` times as many are drawn, each time anew; where more queries are asked, they take turns.

    Raises ValueError where a share is out of range or a group has too few documents.
    """
    if strategy == "auto":
        strategy = "balanced" if corpus.single_label else "multilabel"
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r} is not known: take auto, {', '.join(STRATEGIES)}")
    if not 0 <= several <= 1 or not 0 <= none <= 1 or several + none > 1 + 1e-9:
        raise ValueError(f"shares several={several} and none={none} must be in [0, 1] and sum to 1 at most")
    if shots < 0:
        raise ValueError(f"shots={shots} must be 0 or more")
    counts = corpus.gold.sum(1)
    free = ~corpus.documents["id"].isin(set(exclude)).to_numpy()
    rng = np.random.default_rng(seed)
    rows = [
        _rows(rng, corpus.gold, counts, free, shots, strategy, several, none) for _ in range(1 if shared else queries)
    ]
    ids = corpus.documents["id"].to_numpy()
    return Plan(
        seed,
        strategy,
        shared,
        tuple(tuple(str(ids[row]) for row in drawn) for drawn in rows),
        tuple(_questions(rng, corpus, ids, drawn) for drawn in rows),
        tuple(_pairs(rng, corpus, ids, drawn) for drawn in rows),
    )


def _rows(rng, gold, counts, free, shots, strategy, several, none) -> np.ndarray:
    if strategy == "random":
        groups = [(np.flatnonzero(free), shots, "documents")]
    elif strategy == "multilabel":
        many = round(shots * several)
        empty = min(round(shots * none), shots - many)  # both may be rounded up
        groups = [
            (np.flatnonzero(free & (counts >= 2)), many, "documents with two or more labels"),
            (np.flatnonzero(free & (counts == 0)), empty, "documents without a label"),
            (np.flatnonzero(free & (counts == 1)), shots - many - empty, "documents with one label"),
        ]
    else:
        # Labels in random order, so that a remainder does not always fall to the first ones.
        order = rng.permutation(gold.shape[1])
        share = [shots // len(order) + (i < shots % len(order)) for i in range(len(order))]
        groups = [
            (np.flatnonzero(free & gold[:, label]), k, f"documents of label {label}")
            for label, k in zip(order, share, strict=True)
        ]
    drawn = []
    for rows, k, what in groups:
        if len(rows) < k:
            raise ValueError(f"{k} demonstrations are wanted of {len(rows)} {what}: fewer shots or another split")
        drawn.append(rng.choice(rows, k, replace=False))
    return rng.permutation(np.concatenate(drawn).astype(int))


def _questions(rng, corpus: Corpus, ids, rows) -> tuple[tuple[str, str, bool], ...]:
    """Returns a unary question for each demonstration, half of them about a label that the document has."""
    labels = np.array(corpus.labels)
    counts = corpus.gold[rows].sum(1)
    # A document with all labels (or none) can only be asked one way; the others make up the half.
    good = counts == len(labels)
    open_rows = rng.permutation(np.flatnonzero((counts > 0) & ~good))
    good[open_rows[: max(len(rows) // 2 - good.sum(), 0)]] = True
    return tuple(
        (str(ids[row]), str(rng.choice(labels[corpus.gold[row] == reasonable])), bool(reasonable))
        for row, reasonable in zip(rows, good, strict=True)
    )


def _pairs(rng, corpus: Corpus, ids, rows) -> tuple[tuple[str, str, str, str], ...]:
    """Returns for each demonstration a label that the document has against one that it has not, half of them at `a`.

    In multi-label sets none stands in where a document has no label, or all; elsewhere such a document has no pair.
    """
    labels = np.array(corpus.labels)
    at_a = rng.permutation(np.arange(len(rows)) % 2 == 0)
    pairs = []
    for row, first in zip(rows, at_a, strict=True):
        has, lacks = labels[corpus.gold[row]], labels[~corpus.gold[row]]
        if corpus.single_label and not (len(has) and len(lacks)):
            continue
        good, bad = (str(rng.choice(group)) if len(group) else NONE for group in (has, lacks))
        pairs.append((str(ids[row]), *((good, bad, "a") if first else (bad, good, "b"))))
    return tuple(pairs)
