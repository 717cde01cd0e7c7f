"""Which documents of a corpus are taken: rows as indices, decided by a seed."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from mlutils import paths
from mlutils.corpora.corpus import Corpus

WHO = {  # is in a sample, as a sentence about a document goes on
    "all": "can be taken",
    "uniform": "is in a stratum (votes where others have them, and a majority in single-label sets)",
    "multilabel": "has two or more gold labels",
    "paper": "has one of the published ids",
    "paper_multilabel": "has one of the published ids",
}
SAMPLES = tuple(WHO)
UNIFORM_SIZE = 200  # documents of "uniform" without a limit, as many as the paper's test sets have
PAPER_SETS = {"paper": "main", "paper_multilabel": "multilabel"}
DRAWN_AS = {"paper": "uniform", "paper_multilabel": "multilabel"}  # how the paper drew its documents
RESERVED = 0.1  # share of training documents that nothing is trained on


def sample_corpus(corpus: Corpus, sample: str, limit: int | None = None, seed: int = 0) -> Corpus:
    """Returns the documents of a sample; a limit takes the first of a shuffle by seed, no limit keeps the file's order.

    all: every document. multilabel: two or more gold labels. uniform: see `uniform_rows` (limit 200 if not given,
    always shuffled). paper, paper_multilabel: the paper's ids; ids that are not in the corpus become `missing`.
    """
    if sample not in SAMPLES:
        raise ValueError(f"sample {sample!r} is unknown; choose one of {', '.join(SAMPLES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} takes no document; give 1 or more, or None for no limit")
    if sample == "uniform":
        return corpus.take(uniform_rows(corpus, UNIFORM_SIZE if limit is None else limit, seed), sample)
    rows, missing = np.arange(len(corpus)), None
    if sample == "multilabel":
        rows = np.flatnonzero(corpus.gold.sum(axis=1) >= 2)
    elif sample in PAPER_SETS:
        rows, missing = paper_rows(corpus, PAPER_SETS[sample])
    if limit is not None:
        rows = np.random.default_rng(seed).permutation(rows)[:limit]
    return corpus.take(rows, sample, missing)


def paper_rows(corpus: Corpus, set_name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the rows of the paper's test documents, in the published order, and the ids not found."""
    published = pd.read_csv(paths.PUBLISHED / "document_ids.csv", dtype=str)
    published = published[published["set"] == set_name]
    ids = published["document_id"][published["dataset"] == corpus.name]
    if ids.empty:
        names = ", ".join(sorted(set(published["dataset"])))
        raise ValueError(f"the paper's {set_name} documents of {corpus.name!r} are not published; those of {names} are")
    rows = pd.Series(np.arange(len(corpus)), index=corpus.documents["id"]).reindex(ids)
    return rows.dropna().to_numpy(dtype=int), tuple(rows.index[rows.isna()])


def strata(corpus: Corpus) -> np.ndarray:
    """Returns the stratum of each document, int (D,), -1 where it belongs to none.

    {no, one, several gold labels} x {agree, disagree}, where annotators agree if every label's share is 0 or 1; for a
    single-label corpus, {its classes} x {agree, disagree}, posts without a majority in none. Where no document has
    votes, by the number of gold labels (or the class) alone; where some have, the others are in none.
    """
    labels = corpus.gold.sum(axis=1)
    kind = np.where(labels > 0, corpus.gold.argmax(axis=1), -1) if corpus.single_label else np.minimum(labels, 2)
    if not corpus.has_votes.any():
        return kind
    agree = np.isin(corpus.votes, (0, 1)).all(axis=1)
    return np.where(corpus.has_votes & (kind >= 0), 2 * kind + agree, -1)


def uniform_rows(corpus: Corpus, size: int, seed: int = 0) -> np.ndarray:
    """Returns about `size` rows, as even over the strata as can be, shuffled; fewer only if there are fewer in all.

    Strata that run short are taken whole and what they lack is shared evenly by the others.
    """
    rng = np.random.default_rng(seed)
    stratum = strata(corpus)
    rows = [rng.permutation(np.flatnonzero(stratum == each)) for each in np.unique(stratum[stratum >= 0])]
    quotas = share_evenly([len(each) for each in rows], size)
    chosen = [each[:quota] for each, quota in zip(rows, quotas, strict=True)]
    return rng.permutation(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=int)


def share_evenly(room: list[int], size: int) -> list[int]:
    """Returns how many to take from each stratum: min(size, sum of room) in all, as even as room allows.

    What does not divide goes to the first strata that have room.
    """
    quotas = [0] * len(room)
    for _ in range(min(size, sum(room))):
        fewest = min((quota, index) for index, quota in enumerate(quotas) if quota < room[index])[1]
        quotas[fewest] += 1
    return quotas


def reserved(ids: Iterable, share: float = RESERVED) -> np.ndarray:
    """Returns which training documents are set aside, bool (D,): to calibrate, blend and stack on, never to train on.

    A hash of the id decides, so encoders and traces agree on it without a file, whatever else is sampled.
    """
    return np.array([int(hashlib.sha256(str(each).encode()).hexdigest()[:8], 16) < share * 16**8 for each in ids], bool)
