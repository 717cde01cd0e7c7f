"""Traces: the schema, writing in parts with resume, reading back.

A trace is a folder of tables, one row per document, answer, label step, question or failure. It is written in parts:
a part holds some documents of one view (list, unary, ...) and appears under its name only when it is whole, so that a
killed run goes on where it stopped. Only the part that makes a trace needs the language model.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from mlutils.corpora import Corpus
from mlutils.files import claim, replacing, write_json

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
STATES = "hidden.safetensors"  # first_label (D, H) of the view list, layers (D, layers + 1, H) of the view hidden
STATE_NAMES = {"list": "first_label", "hidden": "layers"}


class TraceError(ValueError):
    """Raised where a trace is missing, unfinished, of another schema, or was made with other settings."""


class Writer:
    """Writes a trace in parts; opening the same folder again with the same settings goes on with what is missing.

    A folder has one writer: it is held until the trace is finished, or the process ends.
    """

    def __init__(self, folder: Path, settings: dict):
        """Raises TraceError where the folder holds a trace made with other settings, InUse where it is written to."""
        self.folder = Path(folder)
        self._lock = claim(self.folder)
        self.parts = self.folder / "parts"
        self.parts.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps({"schema": SCHEMA, **settings}, default=str))
        head = self.folder / "trace.json"
        if head.exists():
            before = json.loads(head.read_text(encoding="utf-8"))
            changed = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            if changed:
                raise TraceError(
                    f"{self.folder} holds a trace made with other settings ({', '.join(changed)} differ): "
                    "give another folder, or delete this one to trace anew"
                )
        else:
            write_json(head, settings)
        for unfinished in self.parts.glob(".writing-*"):
            shutil.rmtree(unfinished)

    def done(self, view: str) -> set[int]:
        """Returns the numbers of the parts of a view that are there."""
        return {int(part.name.rpartition("-")[2]) for part in self.parts.glob(f"{view}-*")}

    def add(
        self,
        view: str,
        number: int,
        tables: dict[str, list[dict]],
        states: np.ndarray | None = None,
        work: dict[str, float] | None = None,
    ) -> None:
        """Adds a part: rows for some of the tables, hidden states (documents of the part, ..., H), and what it took."""
        temporary = Path(tempfile.mkdtemp(dir=self.parts, prefix=".writing-"))
        for name, rows in tables.items():
            pd.DataFrame(rows, columns=COLUMNS[name]).to_parquet(temporary / f"{name}.parquet")
        if states is not None:
            save_file({"states": np.ascontiguousarray(states)}, temporary / STATES)  # a slice would be scrambled
        if work is not None:
            write_json(temporary / "work.json", {"view": view, **work})
        os.replace(temporary, self.parts / f"{view}-{number:06d}")

    def failures(self) -> pd.DataFrame:
        """Returns the failures so far."""
        frames = [pd.read_parquet(file) for file in self.parts.glob("*/failures.parquet")]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS["failures"])

    def finish(self) -> None:
        """Joins the parts into one file a table; the parts stay until all of them are written."""
        parts = sorted(part for part in self.parts.iterdir() if not part.name.startswith("."))
        for name, columns in COLUMNS.items():
            frames = [pd.read_parquet(file) for part in parts if (file := part / f"{name}.parquet").exists()]
            frames = [frame for frame in frames if len(frame)] or [pd.DataFrame(columns=columns)]
            with replacing(self.folder / f"{name}.parquet") as draft:
                pd.concat(frames, ignore_index=True).to_parquet(draft)
        work: dict[str, dict[str, float]] = {}
        for part in parts:
            if (file := part / "work.json").exists():
                taken = json.loads(file.read_text(encoding="utf-8"))
                total = work.setdefault(taken.pop("view"), dict.fromkeys(taken, 0))
                total.update({name: round(total[name] + value, 2) for name, value in taken.items()})
        write_json(self.folder / "work.json", work)
        states: dict[str, list[np.ndarray]] = {}
        for part in parts:
            if (file := part / STATES).exists():
                states.setdefault(STATE_NAMES[part.name.rpartition("-")[0]], []).append(load_file(file)["states"])
        if states:
            joined = {name: np.concatenate(found) for name, found in states.items()}
            with replacing(self.folder / STATES) as draft:
                save_file(joined, draft)
        self._lock.release()


class Trace:
    """A finished trace, read back as arrays over its documents (D rows, in order)."""

    def __init__(self, folder: Path | str):
        """Raises TraceError where there is no finished trace of this schema."""
        self.folder = Path(folder)
        head = self.folder / "trace.json"
        if not head.exists():
            raise TraceError(f"{self.folder} holds no trace: run notebooks/10_trace.ipynb with this folder first")
        self.settings = json.loads(head.read_text(encoding="utf-8"))
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
        """Returns a table of the trace; see COLUMNS."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    @property
    def work(self) -> dict[str, dict[str, float]]:
        """Returns the tokens, passes and seconds that each view took, over all the times it was continued."""
        return json.loads((self.folder / "work.json").read_text(encoding="utf-8"))

    @cached_property
    def documents(self) -> pd.DataFrame:
        return self.table("documents")

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
        return matrix(self.documents["gold"], len(self.labels)).astype(bool)

    @property
    def votes(self) -> np.ndarray:
        """Returns the share of annotators (D, L), NaN where unknown."""
        return matrix(self.documents["votes"], len(self.labels))

    @property
    def annotators(self) -> np.ndarray:
        """Returns int (D,), 0 where unknown."""
        return self.documents["annotators"].to_numpy(int)

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
        """Returns the hidden states that predict the first label, float32 (D, H), NaN where there was none."""
        return load_file(self.folder / STATES)["first_label"]

    def layer_states(self) -> np.ndarray:
        """Returns the hidden states that predict the first label after each layer, float (D, layers + 1, H), NaN where
        there was none; the last one is after the final norm. Raises TraceError for a trace without the view hidden.
        """
        if "hidden" not in self.settings["views"]:
            raise TraceError(f"{self.folder} has no view hidden: trace with asked=[list, hidden]")
        return load_file(self.folder / STATES)["layers"]

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


def matrix(column: pd.Series, width: int) -> np.ndarray:
    """Returns a column of lists of `width` numbers each, or of numbers where that is 1, as an array (rows, width)."""
    return np.array(column.tolist(), float).reshape(len(column), width)
