"""A corpus: documents, labels, and what annotators said about them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlutils import sources
from mlutils.lines import line_of

SPLITS = {
    "train": ("train",),
    "dev": ("dev",),
    "test": ("test",),
    "dev+test": ("dev", "test"),
    "all": ("train", "dev", "test"),
}


def parts(split: str) -> tuple[str, ...]:
    """Returns the files' splits that make up a split, e.g. ("dev", "test"); raises ValueError for any other name."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    return SPLITS[split]


def choose(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Returns the value of an option, or raises ValueError that names the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, allowed))}")
    return value


class EmptyError(ValueError):
    """Raised where the files at hand hold no document of a split."""


def check_filled(name: str, split: str, counts: Mapping[str, int], where: str) -> None:
    """Raises EmptyError where a part of a split has no document; split "all" is whatever is at hand.

    counts: documents of each part that was read; where: of which file, and what it holds.
    """
    empty = [part for part, count in counts.items() if not count]
    if empty and (split != "all" or len(empty) == len(counts)):
        raise EmptyError(
            f"{name}: split {split!r} is asked for, and no document of {' and '.join(empty)} can be read from {where}: "
            "take another split, or the release that holds it"
        )


@contextmanager
def reading(path: Path, encoding: str = "UTF-8") -> Iterator[None]:
    """Names a fetched file, and where it came from, in errors of its encoding or format (ValueError)."""
    try:
        yield
    except UnicodeError as error:
        line = f"line {line_of(error)}: " if isinstance(error, UnicodeDecodeError) else ""
        why, mend = f"is not in {encoding} ({line}{error})", f"save it in {encoding} there"
    except (json.JSONDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        why, mend = f"cannot be read ({error})", "it is cut, or of another format: replace it there"
    else:
        return
    raise ValueError(f"{sources.describe(path)} {why}: {mend}")


def plain(text: str) -> str:
    """Returns a text as copies are told by: without regard to case and white space."""
    return re.sub(r"\s+", " ", text).strip().casefold()


@dataclass(frozen=True)
class Corpus:
    """Documents (D) with labels (L): gold sets, vote shares, and the annotations behind them.

    `missing` holds ids that belong here but are left out: asked for (`sample="paper"`) and not found, or found without
    a vote where gold comes from votes.
    """

    name: str
    split: str
    sample: str
    labels: tuple[str, ...]
    documents: pd.DataFrame  # columns id (str), text (str)
    gold: np.ndarray  # bool (D, L)
    votes: np.ndarray  # float (D, L), share of annotators who chose the label; NaN rows where unknown
    annotators: np.ndarray  # int (D,), 0 where unknown
    truth: np.ndarray | None = None  # float (D, L), known for synthetic corpora only
    single_label: bool = False
    annotations: pd.DataFrame | None = None  # a row an annotation: id, annotator, one bool column a label
    grades: pd.DataFrame | None = None  # likewise, the grades of a graded corpus as its file has them
    missing: tuple[str, ...] = ()
    texts: bool = True  # False: released labels, marks stand in place of texts

    def __post_init__(self):
        shape = (len(self.documents), len(self.labels))
        arrays = {"gold": self.gold, "votes": self.votes}
        if self.truth is not None:
            arrays["truth"] = self.truth
        for name, array in arrays.items():
            if array.shape != shape:
                raise ValueError(f"{self.name}: {name} has shape {array.shape}, documents x labels is {shape}")
        if self.annotators.shape != shape[:1]:
            raise ValueError(f"{self.name}: annotators has shape {self.annotators.shape}, needs {shape[:1]}")
        if self.gold.dtype != bool:
            raise ValueError(f"{self.name}: gold has type {self.gold.dtype}, needs bool")
        repeated = self.documents["id"][self.documents["id"].duplicated()]
        if len(repeated):
            raise ValueError(f"{self.name}: document ids are there twice, e.g. {list(repeated[:3])}")

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def has_votes(self) -> np.ndarray:
        """Returns which documents have vote shares, bool (D,)."""
        return ~np.isnan(self.votes).any(axis=1)

    def take(self, rows: ArrayLike, sample: str | None = None, missing: tuple[str, ...] | None = None) -> "Corpus":
        """Returns the corpus of these rows (indices or a bool mask), in the order given, with their annotations."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        documents = self.documents.iloc[rows].reset_index(drop=True)

        def keep(table):
            return None if table is None else table[table["id"].isin(documents["id"])].reset_index(drop=True)

        return replace(
            self,
            sample=self.sample if sample is None else sample,
            documents=documents,
            gold=self.gold[rows],
            votes=self.votes[rows],
            annotators=self.annotators[rows],
            truth=None if self.truth is None else self.truth[rows],
            annotations=keep(self.annotations),
            grades=keep(self.grades),
            missing=self.missing if missing is None else missing,
        )


def shares(annotations: pd.DataFrame, ids: pd.Series, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the share of annotators a label (D, L), NaN without annotators, and their number (D,); equation 1."""
    groups = annotations.groupby("id")[list(labels)]
    votes = groups.mean().reindex(ids).to_numpy(dtype=float)
    return votes, groups.size().reindex(ids, fill_value=0).to_numpy(dtype=int)


def concatenate(corpora: list[Corpus], split: str) -> Corpus:
    """Returns several splits of one corpus as one; labels that a split lacks are False there (Boxes)."""
    first = corpora[0]
    labels = tuple(dict.fromkeys(label for corpus in corpora for label in corpus.labels))
    if any(set(corpus.labels) != set(labels) for corpus in corpora):
        labels = tuple(sorted(labels))

    def stack(field, fill):
        if getattr(first, field) is None:
            return None
        widened = []
        for corpus in corpora:
            array = getattr(corpus, field)
            wide = np.full((len(corpus), len(labels)), fill, dtype=array.dtype)
            wide[:, [labels.index(label) for label in corpus.labels]] = array
            widened.append(wide)
        return np.concatenate(widened)

    named = [corpus.annotations for corpus in corpora if corpus.annotations is not None]
    return replace(
        first,
        split=split,
        labels=labels,
        documents=pd.concat([corpus.documents for corpus in corpora], ignore_index=True),
        gold=stack("gold", False),
        votes=stack("votes", np.nan),
        truth=stack("truth", 0.0),
        annotators=np.concatenate([corpus.annotators for corpus in corpora]),
        annotations=pd.concat(named, ignore_index=True) if named else None,
        missing=tuple(each for corpus in corpora for each in corpus.missing),
    )
