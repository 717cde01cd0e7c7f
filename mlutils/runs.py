"""Runs: parameters checked, seeds set, `run.json` written, finished runs collected.

A run is one notebook executed with one set of parameters into one folder.
"""

import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from filelock import BaseFileLock

from mlutils import files, fingerprints, paths, releases, sources
from mlutils.parameters import ParameterError, check_parameters, nearest, read_parameters
from mlutils.traces import Trace, TraceError, has_trace

PACKAGES = ("numpy", "pandas", "scikit-learn", "torch", "transformers", "tokenizers", "papermill")
PLAIN = (str, int, float, bool, list, dict, type(None))

RUN_AGAIN = "delete it and {folder}/notebook.ipynb to have the notebook run again, a trace goes on where it stopped"


@dataclass
class Run:
    """A run under way: its notebook, parameters and folder, and what it will leave in `run.json`."""

    notebook: str
    parameters: dict
    folder: Path
    record: dict
    lock: BaseFileLock  # on the folder
    started: float = field(default_factory=time.time)
    tables: list[str] = field(default_factory=list)

    def table(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Writes a tidy table as `<name>.csv` into the run's folder and returns it."""
        files.write_csv(self.folder / f"{name}.csv", frame)
        self.tables.append(f"{name}.csv")
        return frame

    def finish(self, produced: Iterable[str] = (), **notes) -> None:
        """Asserts that the files `produced` are there, and writes `run.json`.

        Raises AssertionError that names what is missing or empty.
        """
        missing = [name for name in [*self.tables, *produced] if not _has_content(self.folder / name)]
        assert not missing, f"{self.notebook} did not produce {', '.join(missing)} in {self.folder}"
        self.record |= {
            **notes,
            "produced": sorted({*self.tables, *produced}),
            "sources": sources.used(),
            "needs": sources.needed(),
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_mib": round(_peak_memory() / 2**20),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        }
        files.write_json(self.folder / "run.json", self.record)
        self.lock.release(force=True)  # however often it was claimed: a trace that failed before has not let go
        print(f"finished in {self.record['seconds']} s, at most {self.record['peak_memory_mib']} MiB")


def start(notebook: str, namespace: MutableMapping) -> Run:
    """Checks the parameters that stand in a notebook's namespace (`globals()`), sets seeds, and says what runs where.

    Every plain value in the namespace must be a declared parameter: papermill adds unknown names without an error.
    Values become what their types say (5e-05, which papermill's -y takes for a text, a number). The folder is the
    run's own until it has finished or its process has ended.
    Raises ParameterError that names all problems at once, InUse where another process writes into the folder.
    """
    hidden = {"In", "Out", "exit", "quit"}
    names = {parameter.name for parameter in read_parameters(notebook)}
    given = {
        name: value
        for name, value in namespace.items()
        if name in names or (not name.startswith("_") and name not in hidden and isinstance(value, PLAIN))
    }
    if given.get("reads") == [] and notebook not in fingerprints.ASKING:
        given["reads"] = _find_released(notebook, given)
    reads = given.get("reads", [])
    are_texts = isinstance(reads, list) and all(isinstance(each, str) for each in reads)
    unread = _find_unread(reads) if are_texts else []
    try:
        parameters = check_parameters(notebook, given)
    except ParameterError as error:
        raise ParameterError("; ".join([str(error), *unread])) from None
    if unread:
        raise ParameterError("; ".join(unread))
    namespace.update(parameters)
    seed = parameters.get("seed", 0)
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    folder = Path(parameters["folder"] or paths.RESULTS / "by-hand" / notebook)
    lock = files.claim(folder)
    (folder / "run.json").unlink(missing_ok=True)  # there is one only when a run has finished
    record = {
        "notebook": notebook,
        "parameters": parameters,
        **commit(),
        "code": fingerprints.read(notebook),
        "versions": versions(),
        "device": device(),
    }
    print(f"{notebook} at {record['commit'][:10]}{' (changed since)' if record['dirty'] else ''}, {record['device']}")
    print(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    return Run(notebook, parameters, folder, record, lock)


def _find_released(notebook: str, given: Mapping) -> list[str]:
    """Returns the folders of released runs that a notebook reads when none are given, and says so."""
    found = releases.find_reads(notebook, given)
    if found:
        print(f"reads {len(found)} released runs of {found[0].parents[1].name}; give `reads` to read your own")
    return [os.path.relpath(folder) for folder in found]


def _find_unread(reads: Iterable[str]) -> list[str]:
    """Returns what is wrong with the folders of runs that a notebook is to read."""
    problems, seen = [], set()
    for path in reads:
        folder = Path(path).absolute()
        if folder.resolve() in seen:
            problems.append(f"reads has {path} twice: leave one out")
        elif not folder.is_dir():
            beside = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
            problems.append(f"reads: there is no folder {folder}{nearest(folder.name, beside)}")
        elif not (folder / "run.json").exists() and not has_trace(folder):
            runs = [each.parent.name for each in folder.glob("*/run.json")]
            what = f"give its folders {', '.join(sorted(runs))}" if runs else "let its notebook finish first"
            problems.append(f"reads: {path} holds no run: {what}")
        elif releases.is_released(folder):
            try:
                releases.read_record(folder)
            except releases.ReleaseError as error:
                problems.append(f"reads: {error}")
        seen.add(folder.resolve())
    return problems


def commit() -> dict:
    """Returns the commit of the working tree and whether files differ from it."""

    def git(*words):
        out = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True)
        return out.stdout.strip() if out.returncode == 0 else ""

    return {"commit": git("rev-parse", "HEAD") or "unknown", "dirty": bool(git("status", "--porcelain"))}


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def device() -> str:
    """Returns the machine in words: GPUs where torch is loaded and sees some, and cores."""
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([*gpus, f"{os.cpu_count()} {platform.machine()} cores"])


def _has_content(path: Path) -> bool:
    return path.exists() and (path.is_dir() or path.stat().st_size > 0)


def _peak_memory() -> int:
    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return info.peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak * (1 if sys.platform == "darwin" else 1024), info.rss)


def find_traces(folders: Iterable[Path | str], view: str = "") -> list[Trace]:
    """Returns the traces among the folders of runs, in their order; those with a view, where one is given.

    Raises TraceError where none has the view, or a trace is not finished.
    """
    traces = [Trace(folder) for folder in folders if has_trace(folder)]
    found = [trace for trace in traces if view in ("", *trace.settings["views"])]
    if view and not found:
        raise TraceError(
            f"none of the {len(traces)} traces in reads has the view {view}: run 10_trace with {view} in `asked`, and "
            "give that run's folder in `reads`"
        )
    return found


def collect(folders: Iterable[Path | str]) -> list[dict]:
    """Returns the `run.json` of each folder, with `folder` added; unfinished runs are left out.

    Raises ValueError that names a record that cannot be read.
    """
    found = []
    for folder in map(Path, folders):
        if (folder / "run.json").exists():
            record = files.read_json(folder / "run.json", ValueError, RUN_AGAIN.format(folder=folder))
            found.append({**record, "folder": folder})
    return found


def find_report(record: Mapping, root: Path) -> Path:
    """Returns where the report of a collected run is; of a released one among the results of its grid (root)."""
    if "release" in record:
        return root / record["notebook"] / record["folder"].name / "report.html"
    return record["folder"] / "report.html"
