"""Writes traces in parts, with resume.

A part holds some documents of one view (list, unary, ...) and appears under its name only when it is whole, so that a
killed run goes on where it stopped. Each part lists its files with their checksums, so that one that was damaged later
is asked again.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from mlutils.files import checksum, claim, find_damaged, making, read_json, replacing, write_json, write_table
from mlutils.traces import ANEW, COLUMNS, HEAD, SCHEMA, STATE_NAMES, STATES, WORK, TraceError, read_states, read_table

WHOLE = "part.json"  # view and work of a part, and its other files with their checksums


class Writer:
    """Writes a trace in parts; opening the same folder again with the same settings goes on with what is missing.

    A folder has one writer: it is held until the trace is finished, or the process ends.
    """

    def __init__(self, folder: Path, settings: dict):
        """Takes away parts that are not whole, and says so. Raises TraceError where the folder holds a trace made with
        other settings, or settings that cannot be read, InUse where it is written to.
        """
        self.folder = Path(folder)
        self._lock = claim(self.folder)
        self.parts = self.folder / "parts"
        self.parts.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps({"schema": SCHEMA, **settings}, default=str))
        head = self.folder / HEAD
        if head.exists():
            before = read_json(head, TraceError, ANEW.format(folder=self.folder))
            changed = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            if changed:
                raise TraceError(
                    f"{self.folder} holds a trace made with other settings ({', '.join(changed)} differ): "
                    "give another folder, or delete this one to trace anew"
                )
        else:
            write_json(head, settings)
        for unfinished in self.parts.glob(".*"):
            shutil.rmtree(unfinished)
        for part in self._all_parts():
            if problem := _find_problem(part):
                print(f"{part} is not whole ({problem}): its documents are asked again")
                shutil.rmtree(part)

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
        with making(self.parts / f"{view}-{number:06d}") as part:
            for name, rows in tables.items():
                pd.DataFrame(rows, columns=COLUMNS[name]).to_parquet(part / f"{name}.parquet")
            if states is not None:
                save_file({"states": np.ascontiguousarray(states)}, part / STATES)  # a slice would be scrambled
            sums = {file.name: checksum(file) for file in sorted(part.iterdir())}
            write_json(part / WHOLE, {"view": view, "work": work, "files": sums})

    def failures(self) -> pd.DataFrame:
        """Returns the failures so far."""
        frames = [read_table(file) for file in sorted(self.parts.glob("*/failures.parquet"))]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS["failures"])

    def finish(self) -> None:
        """Joins the parts into one file a table; `documents`, which says that a trace is finished, is written last."""
        parts = self._all_parts()
        states: dict[str, list[np.ndarray]] = {}
        for part in parts:
            if (file := part / STATES).exists():
                states.setdefault(STATE_NAMES[part.name.rpartition("-")[0]], []).append(read_states(file)["states"])
        if states:
            joined = {name: np.concatenate(found) for name, found in states.items()}
            with replacing(self.folder / STATES) as draft:
                save_file(joined, draft)
        work: dict[str, dict[str, float]] = {}
        for part in parts:
            known = read_json(part / WHOLE, TraceError, f"delete {part}, its documents are then asked again")
            if taken := known["work"]:
                total = work.setdefault(known["view"], dict.fromkeys(taken, 0))
                total.update({name: round(total[name] + value, 2) for name, value in taken.items()})
        write_json(self.folder / WORK, work)
        for name, columns in reversed(COLUMNS.items()):
            frames = [read_table(file) for part in parts if (file := part / f"{name}.parquet").exists()]
            frames = [frame for frame in frames if len(frame)] or [pd.DataFrame(columns=columns)]
            write_table(self.folder / f"{name}.parquet", pd.concat(frames, ignore_index=True), name == "documents")
        self._lock.release()

    def _all_parts(self) -> list[Path]:
        return sorted(part for part in self.parts.iterdir() if not part.name.startswith("."))


def _find_problem(part: Path) -> str:
    """Returns why a part is not whole, or nothing."""
    try:
        sums = read_json(part / WHOLE, TraceError, "")["files"]
    except (TraceError, KeyError):
        return f"{WHOLE} is missing or damaged"
    found = zip(find_damaged(part, sums), ("missing", "damaged"), strict=True)
    words = (f"{', '.join(names)} {what}" for names, what in found if names)
    return "; ".join(words)
