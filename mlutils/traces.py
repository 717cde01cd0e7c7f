"""Traces: the schema, and reading them back.

A trace is a folder of tables, one row per document, answer, label step, question or failure (`writer` writes it). Only
making one needs the language model.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.special import expit

from mlutils import corpora
from mlutils.corpora import Corpus
from mlutils.files import read_json

SCHEMA = 1
COLUMNS = {
    "documents": ["id", "text", "gold", "votes", "annotators"],
    "answers": ["document", "variant", "text", "said", "status", "tokens"],
    "steps": ["document", "variant", "step", "label", "repeated", "logits", "mass", "goes_on", "stops"],
    "questions": ["document", "kind", "first", "second", "logits", "mass"],
    "nodes": ["document", "prefix", "logits", "mass", "goes_on", "stops"],
    "attention": [
        *("document", "step", "input", "answer", "first", "shifted"),  # mass by layer, mean over heads
        *("input_tokens", "answer_tokens", "first_tokens"),
    ],
    "failures": ["document", "view", "error"],
}
HEAD = "trace.json"  # the settings, written first
STATES = "hidden.safetensors"  # first_label (D, H) of the view list, layers (D, layers + 1, H) of the view hidden
STATE_NAMES = {"list": "first_label", "hidden": "layers"}
WORK = "work.json"  # what each view took
ANEW = "delete {folder} to trace anew"
JOIN = "run notebooks/10_trace.ipynb with folder={folder} again, which joins it anew from its parts"


class TraceError(ValueError):
    """Raised where a trace is missing, unfinished, damaged, of another schema, or was made with other settings."""


class Trace:
    """A finished trace, read back as arrays over its documents (D rows, in order)."""

    def __init__(self, folder: Path | str):
        """Raises TraceError where there is no finished trace of this schema."""
        self.folder = Path(folder)
        head = self.folder / HEAD
        if not head.exists():
            raise TraceError(f"{self.folder} holds no trace: run notebooks/10_trace.ipynb with this folder first")
        self.settings = read_json(head, TraceError, ANEW.format(folder=self.folder))
        if self.settings.get("schema") != SCHEMA:
            raise TraceError(
                f"{self.folder} was written with schema {self.settings.get('schema')}, this code reads {SCHEMA}: "
                "trace again, or take the commit named in its run.json"
            )
        if not (self.folder / "documents.parquet").exists():
            raise TraceError(f"{self.folder} is not finished: run its notebook again, it goes on where it stopped")
        self.labels = tuple(self.settings["labels"])
        self.single_label = bool(self.settings["single_label"])

    def table(self, name: str) -> pd.DataFrame:
        """Returns a table of the trace; see COLUMNS. Raises TraceError for one that is missing or damaged."""
        return read_table(self.folder / f"{name}.parquet", JOIN.format(folder=self.folder))

    @property
    def work(self) -> dict[str, dict[str, float]]:
        """Returns the tokens, passes and seconds that each view took, over all the times it was continued."""
        return read_json(self.folder / WORK, TraceError, JOIN.format(folder=self.folder))

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Returns a row a document. A released trace has texts, and labels that a licence withholds, where the corpus
        is at hand; without it marks stand for texts, and such labels are missing. Raises TraceError where it is another
        edition.
        """
        table = self.table("documents")
        if "text" in table:
            return table
        try:
            return corpora.join_released(table, self.settings)
        except ValueError as error:
            raise TraceError(f"{self.folder}: {error}") from error

    @cached_property
    def answers(self) -> pd.DataFrame:
        return self.table("answers")

    @cached_property
    def steps(self) -> pd.DataFrame:
        return self.table("steps")

    @cached_property
    def questions(self) -> pd.DataFrame:
        return self.table("questions")

    @cached_property
    def failures(self) -> pd.DataFrame:
        return self.table("failures")

    @property
    def gold(self) -> np.ndarray:
        """Returns bool (D, L)."""
        return matrix(self._labels("gold"), len(self.labels)).astype(bool)

    @property
    def votes(self) -> np.ndarray:
        """Returns the share of annotators (D, L), NaN where unknown."""
        return matrix(self._labels("votes"), len(self.labels))

    def _labels(self, name: str) -> pd.Series:
        """Returns a column of the documents. Raises TraceError where a licence withholds it and it is not at hand."""
        if name not in self.documents:
            why = corpora.why_withheld(self.settings["corpus"], self.settings.get("options"))
            raise TraceError(
                f"{self.folder} was released without labels ({why}): give the folder that holds the corpus as "
                "ONE_LABEL_MIRROR, they are then joined by id"
            )
        return self.documents[name]

    @property
    def annotators(self) -> np.ndarray:
        """Returns int (D,), 0 where unknown."""
        return self._labels("annotators").to_numpy(int)

    @cached_property
    def corpus(self) -> Corpus:
        """Returns the traced documents as a corpus."""
        return Corpus(
            **{name: self.settings[name] for name in ("split", "sample", "single_label")},
            name=self.settings["corpus"],
            labels=self.labels,
            documents=self.documents[["id", "text"]],
            gold=self.gold,
            votes=self.votes,
            annotators=self.annotators,
        )

    def complete(self) -> np.ndarray:
        """Returns which documents no view failed on, bool (D,)."""
        return ~self.documents["id"].isin(self.failures["document"]).to_numpy()

    def step_logits(self, view: str = "list") -> np.ndarray:
        """Returns the logits of the labels, none last, at each label step: (D, R, L+1), NaN-padded."""
        return self._at_steps(view, "logits", len(self.labels) + 1)

    def goes_on(self, view: str = "list") -> np.ndarray:
        """Returns the probability that the list goes on after each label step: (D, R), NaN where not decided."""
        return self._at_steps(view, "goes_on", 1)[..., 0]

    def said(self, view: str = "list") -> np.ndarray:
        """Returns which labels each answer holds, bool (D, L)."""
        answers = self.answers[self.answers["variant"] == view].set_index("document")["said"]
        said = np.zeros((len(self.documents), len(self.labels)), bool)
        index = {label: i for i, label in enumerate(self.labels)}
        for row, document in enumerate(self.documents["id"]):
            said[row, [index[label] for label in answers.get(document, []) if label in index]] = True
        return said

    def unary_logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits of reasonable and unreasonable for each label, none last: (D, L+1) each."""
        asked = self.questions[self.questions["kind"] == "unary"]
        grid = np.full((len(self.documents), len(self.labels) + 1, 2), np.nan)
        grid[self._rows(asked["document"]), self._columns(asked["first"])] = matrix(asked["logits"], 2)
        return grid[..., 0], grid[..., 1]

    def pairwise_wins(self, ordered: bool = False) -> np.ndarray:
        """Returns P(i beats j), none last: (D, L+1, L+1), NaN on the diagonal and for pairs that were not asked.

        A pair that was asked in both orders has the mean of both answers. `ordered` keeps them apart: [i, j] is then
        P(i beats j) where i stood at a. Raises TraceError for logits that are not finite.
        """
        asked = self.questions[self.questions["kind"] == "pairwise"]
        logits = matrix(asked["logits"], 2)
        bad = asked["document"][~np.isfinite(logits).all(axis=1)].unique()
        if len(bad):
            raise TraceError(f"the pairwise logits of {list(bad[:5])} are NaN or infinite: trace them again")
        wins = np.full((len(self.documents), len(self.labels) + 1, len(self.labels) + 1), np.nan)
        first, second = self._columns(asked["first"]), self._columns(asked["second"])
        wins[self._rows(asked["document"]), first, second] = expit(logits[:, 0] - logits[:, 1])
        if ordered:
            return wins
        reverse = 1 - wins.transpose(0, 2, 1)
        return np.where(np.isnan(wins), reverse, np.where(np.isnan(reverse), wins, (wins + reverse) / 2))

    def states(self) -> np.ndarray:
        """Returns the hidden states that predict the first label, float32 (D, H), NaN where there was none.

        Raises TraceError for a trace without the view list, and for a damaged file.
        """
        return self._states("list").astype(np.float32)  # released ones have half of its digits

    def layer_states(self) -> np.ndarray:
        """Returns the hidden states that predict the first label after each layer, float (D, layers + 1, H), NaN where
        there was none; the last one is after the final norm. Raises TraceError for a trace without the view hidden,
        and for a damaged file.
        """
        return self._states("hidden")

    @property
    def has_layers(self) -> bool:
        """Returns whether the trace has the states of all layers: the view hidden has, but they are not released."""
        return "hidden" in self.settings["views"] and not self.settings.get("released")

    def _states(self, view: str) -> np.ndarray:
        if view not in self.settings["views"]:
            raise TraceError(f"{self.folder} has no view {view}: trace with {view} among the views asked")
        path = self.folder / STATES
        if view == "hidden" and not self.has_layers:
            raise TraceError(f"{self.folder} was released without the states of all layers: they are too large")
        found = read_states(path, JOIN.format(folder=self.folder)).get(STATE_NAMES[view])
        if found is None or len(found) != len(self.documents):
            raise TraceError(
                f"{path} holds {'no' if found is None else len(found)} states {STATE_NAMES[view]} for "
                f"{len(self.documents)} documents: {JOIN.format(folder=self.folder)}"
            )
        return found

    def _rows(self, ids: Iterable[str]) -> np.ndarray:
        return pd.Index(self.documents["id"]).get_indexer(pd.Index(ids))

    def _columns(self, labels: pd.Series) -> np.ndarray:
        return labels.map({label: i for i, label in enumerate([*self.labels, "none"])}).to_numpy(int)

    def _at_steps(self, view: str, column: str, width: int) -> np.ndarray:
        steps = self.steps[self.steps["variant"] == view]
        longest = int(steps["step"].max()) if len(steps) else 1
        grid = np.full((len(self.documents), longest, width), np.nan)
        grid[self._rows(steps["document"]), steps["step"].to_numpy(int) - 1] = matrix(steps[column], width)
        return grid


def has_trace(folder: Path | str) -> bool:
    """Returns whether a folder holds a trace, finished or not."""
    return (Path(folder) / HEAD).exists()


def read_table(path: Path, advice: str = "delete its folder, the documents are then asked again") -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path} cannot be read ({error}): {advice}") from error


def read_states(path: Path, advice: str = "delete its folder, the documents are then asked again") -> dict:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TraceError(f"{path} cannot be read ({error}): {advice}") from error


def matrix(column: pd.Series, width: int) -> np.ndarray:
    """Returns a column of lists of `width` numbers each, or of numbers where that is 1, as an array (rows, width)."""
    return np.array(column.tolist(), float).reshape(len(column), width)
