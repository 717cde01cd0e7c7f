"""Writes files so that nothing half-written is ever found under its final name."""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import BaseFileLock, FileLock, Timeout


class InUse(RuntimeError):
    """Raised where another process writes into a folder; says which."""


def claim(folder: Path | str) -> BaseFileLock:
    """Makes a folder this process's own and returns the lock, which ends with `release` or with the process.

    A process may claim a folder several times. Raises InUse where another one holds it.
    """
    file = Path(folder) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip() or "another process"
        raise InUse(f"{folder} is being written by {holder}: wait until it has finished, or end it first") from None
    if lock.lock_counter == 1:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        file.write_text(f"process {os.getpid()} on {platform.node()}, since {started} UTC\n", encoding="utf-8")
    return lock


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a path beside `path` to write to, which takes its place when the block ends without an error."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.partial")
    draft.touch()
    rights = draft.stat().st_mode
    try:
        yield draft
        draft.chmod(rights)  # safetensors makes files that only their owner may read
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def making(folder: Path | str) -> Iterator[Path]:
    """Yields an empty folder beside `folder`, which takes its place when the block ends without an error."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        yield made
        for file in made.rglob("*"):  # as in `replacing`
            if file.is_file():
                file.chmod(made.stat().st_mode & 0o666)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_damaged(folder: Path, sums: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns which files of a folder are missing, and which are not those of the checksums (by name, SHA-256)."""
    missing = [name for name in sums if not (folder / name).is_file()]
    return missing, [name for name in sums if name not in missing and checksum(folder / name) != sums[name]]


def read_json(path: Path | str, error: type[Exception], advice: str) -> dict:
    """Returns the object in a JSON file; raises `error`, which names the file and gives advice, for anything else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:  # not there, not UTF-8, or cut
        raise error(f"{path} cannot be read ({cause}): {advice}") from cause
    if not isinstance(found, dict):
        raise error(f"{path} holds a {type(found).__name__}, not an object: {advice}")
    return found


def write_text(path: Path | str, text: str) -> Path:
    """Writes a text in UTF-8 and returns the path; folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path | str, data) -> Path:
    """Writes JSON and returns the path."""
    return write_text(path, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def write_csv(path: Path | str, frame: pd.DataFrame, digits: str = "%.6g") -> Path:
    """Writes a tidy table as CSV and returns the path. digits: the format of floats."""
    return write_text(path, frame.to_csv(index=False, float_format=digits, lineterminator="\n"))


def write_table(path: Path, table: pd.DataFrame, exact: bool = False, about: Mapping[str, str] | None = None) -> None:
    """Writes a table as Parquet, compressed, its numbers with a point as float32, as models have them.

    exact: numbers as they are. about: texts that are kept beside the table, as metadata of its schema.
    """
    written = pa.Table.from_pandas(table, preserve_index=False)
    if not exact:
        written = written.cast(pa.schema([field.with_type(_single(field.type)) for field in written.schema]))
    with replacing(path) as draft:
        pq.write_table(written.replace_schema_metadata(about), draft, compression="zstd", compression_level=19)


def _single(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_single(kind.value_type))
    return pa.float32() if pa.types.is_float64(kind) else kind
