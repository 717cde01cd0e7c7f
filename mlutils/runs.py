"""Runs: parameters checked, seeds set, `run.json` written, runs of a grid planned and collected.

A run is one notebook executed with one set of parameters into one folder. What a notebook may be given stands in its
cell tagged `parameters`: one a line, typed, with a comment whose part before a semicolon lists the choices, if it
holds ` | `.
"""

import ast
import hashlib
import itertools
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import yaml

from mlutils import files, paths, sources

PACKAGES = ("numpy", "pandas", "scikit-learn", "torch", "transformers", "tokenizers", "papermill")
PLAIN = (str, int, float, bool, list, dict, type(None))


class ParameterError(ValueError):
    """Raised where parameters are unknown, of another type, or not among the choices; names all of them."""


@dataclass(frozen=True)
class Parameter:
    """A line of a notebook's parameters cell."""

    name: str
    kind: str  # str, int, float, bool, dict, list[str], list[int], list[float]
    default: object
    comment: str

    @property
    def choices(self) -> list[str]:
        """Returns the values that the comment allows; none listed means any."""
        listed = self.comment.partition(";")[0]
        return [choice.strip() for choice in listed.split(" | ")] if " | " in listed else []

    def problem(self, value) -> str | None:
        """Returns what is wrong with a value, or None."""
        if not _fits(value, self.kind):
            return f"{self.name}={value!r} must be of type {self.kind} ({self.comment})"
        for each in value if isinstance(value, list) else [value]:
            if self.choices and str(each) not in self.choices:
                return f"{self.name}={each!r} must be one of {', '.join(self.choices)}"
        return None


def _fits(value, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(each, kind[5:-1]) for each in value)
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict}[kind])


def read_parameters(notebook: str) -> list[Parameter]:
    """Returns the parameters of `notebooks/<notebook>.ipynb`.

    Raises ParameterError where the cell is missing or a line has no type or no value: papermill's own reading
    (`papermill --help-notebook`) passes over a line that it cannot read, one with `=` in its comment for instance.
    """
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{path.name} needs one cell tagged parameters, it has {len(tagged)}")
    lines = tagged[0].splitlines()
    parameters = []
    for statement in ast.parse(tagged[0]).body:
        if not isinstance(statement, ast.AnnAssign) or statement.value is None:
            raise ParameterError(
                f"{path.name}: write {lines[statement.lineno - 1]!r} as `name: type = value  # choices`"
            )
        comment = lines[statement.end_lineno - 1].partition("  # ")[2].strip()
        name, kind = statement.target.id, ast.unparse(statement.annotation)
        parameters.append(Parameter(name, kind, ast.literal_eval(statement.value), comment))
    return parameters


def check_parameters(notebook: str, given: Mapping) -> dict:
    """Returns the notebook's parameters with the given values.

    Raises ParameterError that names every unknown, ill-typed or not allowed value at once.
    """
    known = {parameter.name: parameter for parameter in read_parameters(notebook)}
    problems = [
        f"{name} is no parameter of {notebook}; it has {', '.join(known)}" for name in given if name not in known
    ]
    problems += [p for name, value in given.items() if name in known and (p := known[name].problem(value))]
    if problems:
        raise ParameterError("; ".join(problems))
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


@dataclass
class Run:
    """A run under way: its notebook, parameters and folder, and what it will leave in `run.json`."""

    notebook: str
    parameters: dict
    folder: Path
    record: dict
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
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_mib": round(_peak_memory() / 2**20),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        }
        files.write_json(self.folder / "run.json", self.record)
        print(f"finished in {self.record['seconds']} s, at most {self.record['peak_memory_mib']} MiB")


def start(notebook: str, namespace: Mapping) -> Run:
    """Checks the parameters that stand in a notebook's namespace (`globals()`), sets seeds, and says what runs where.

    Every plain value in the namespace must be a declared parameter: papermill adds unknown names without an error.
    Raises ParameterError that names all problems at once.
    """
    hidden = {"In", "Out", "exit", "quit"}
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in hidden and isinstance(value, PLAIN)
    }
    parameters = check_parameters(notebook, given)
    seed = parameters.get("seed", 0)
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    folder = Path(parameters["folder"] or paths.RESULTS / "by-hand" / notebook)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)  # there is one only when a run has finished
    record = {
        "notebook": notebook,
        "parameters": parameters,
        **commit(),
        "code": code_fingerprint(),
        "versions": versions(),
        "device": device(),
    }
    print(f"{notebook} at {record['commit'][:10]}{' (changed since)' if record['dirty'] else ''}, {record['device']}")
    print(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    return Run(notebook, parameters, folder, record)


def commit() -> dict:
    """Returns the commit of the working tree and whether files differ from it."""

    def git(*words):
        out = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True)
        return out.stdout.strip() if out.returncode == 0 else ""

    return {"commit": git("rev-parse", "HEAD") or "unknown", "dirty": bool(git("status", "--porcelain"))}


def code_fingerprint() -> str:
    """Returns a hash of `mlutils`, by which a report marks runs that are older than the code."""
    digest = hashlib.sha256()
    for file in sorted((paths.ROOT / "mlutils").rglob("*.py")):
        digest.update(file.relative_to(paths.ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


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


# -- grids ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Point:
    """One run of a grid: notebook, name of its folder, parameters, and the points that it reads."""

    notebook: str
    name: str
    parameters: dict
    reads: tuple[str, ...] = ()  # "notebook/name"

    @property
    def key(self) -> str:
        return f"{self.notebook}/{self.name}"


def read_grid(path: Path | str) -> dict[str, Point]:
    """Returns the points of a grid file, by `notebook/name`, in the order of the file.

    A block names a notebook; a list of blocks are several of the same notebook. Lists are axes, and every combination
    of their values is a run; a value that is itself a mapping sets several parameters at once.
    `reads: {notebook: [names]}` gives a run the folders of that notebook's runs (parameter `reads`), those of the
    blocks before its own that agree with it in the parameters named; `reads: {notebook: {name: value}}` those that have
    this value (no value: the run's own).
    Raises ParameterError where parameters do not fit the notebooks; all problems are reported at once.
    """
    blocks = yaml.safe_load(Path(path).read_text())["runs"]
    points: dict[str, Point] = {}
    problems = []
    each = ((notebook, part) for notebook, block in blocks.items() for part in _as_list(block))
    for notebook, block in each:
        block, before = dict(block or {}), dict(points)
        reads = block.pop("reads", {})
        for axes, parameters in _combinations(block):
            try:
                checked = check_parameters(notebook, parameters)
            except ParameterError as error:
                problems.append(str(error))
                continue
            read = tuple(
                key
                for key, other in before.items()
                for source, names in reads.items()
                if other.notebook == source and _agrees(other, names, checked)
            )
            point = Point(notebook, _name(axes, parameters), parameters, read)
            if point.key in points:
                problems.append(f"{point.key} is there twice")
            points[point.key] = point
    if problems:
        raise ParameterError(f"{path}: " + "; ".join(problems))
    return points


def _as_list(block) -> list:
    return block if isinstance(block, list) else [block]


def _agrees(other: Point, names: Iterable[str] | Mapping[str, object], checked: Mapping) -> bool:
    wanted = names if isinstance(names, Mapping) else dict.fromkeys(names)
    return all(_value(other, name) == (checked[name] if value is None else value) for name, value in wanted.items())


def _value(point: Point, name: str):
    return check_parameters(point.notebook, point.parameters).get(name)


def _combinations(block: Mapping) -> Iterable[tuple[dict, dict]]:
    """Yields for each point the values of its axes, and all its parameters."""
    axes = {name: values for name, values in block.items() if isinstance(values, list)}
    fixed = {name: value for name, value in block.items() if name not in axes}
    for values in itertools.product(*axes.values()):
        chosen: dict = {}
        for name, value in zip(axes, values, strict=True):
            chosen |= value if isinstance(value, Mapping) else {name: value}
        yield chosen, {**fixed, **chosen}


def _name(axes: Mapping, parameters: Mapping) -> str:
    """Returns a folder name: the values of the axes, and a hash of all parameters.

    With the hash, another seed or number of shots is another run beside the old one, and nothing is overwritten.
    """
    flat = {
        k: v for name, value in axes.items() for k, v in (value if isinstance(value, dict) else {name: value}).items()
    }
    flat = {name: "+".join(map(str, value)) if isinstance(value, list) else value for name, value in flat.items()}
    words = [value if isinstance(value, str) else f"{name}={value}" for name, value in flat.items()]
    words = [re.sub(r"[^\w.+=-]+", "_", word).strip("_.") for word in words]
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()[:6]
    return "-".join([*words, digest])


def has_trace(folder: Path | str) -> bool:
    """Returns whether a run's folder holds a trace."""
    return (Path(folder) / "trace.json").exists()


def collect(folders: Iterable[Path | str]) -> list[dict]:
    """Returns the `run.json` of each folder, with `folder` added; unfinished runs are left out."""
    found = []
    for folder in map(Path, folders):
        if (folder / "run.json").exists():
            found.append({**json.loads((folder / "run.json").read_text()), "folder": folder})
    return found
