"""Grids: a YAML file that says which notebook runs over what, read as points, one a run.

A grid that is not what it seems is refused as a whole, with the line of every problem: a key that is there twice, an
axis without values, `reads` that match nothing.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlutils import paths
from mlutils.lines import Lined, read_lined
from mlutils.parameters import Parameter, ParameterError, complete, find_problems, nearest, read_parameters

LONGEST = 255  # bytes of a folder's name that file systems take
NOT_HERE = {
    "folder": "the Snakefile sets it",
    "reads": "it is a mapping of the block: reads: {10_trace: []}",
    "grid": "it is the file's name, leave it out",
}


@dataclass(frozen=True)
class Point:
    """One run of a grid: notebook, name of its folder, parameters, and the points that it reads."""

    notebook: str
    name: str
    parameters: dict  # those that the grid gives
    reads: tuple[str, ...] = ()  # "notebook/name"
    checked: dict = field(default_factory=dict, compare=False)  # all parameters

    @property
    def key(self) -> str:
        return f"{self.notebook}/{self.name}"


def read_grid(path: Path | str, results: Path | str | None = None) -> dict[str, Point]:
    """Returns the points of a grid file, by `notebook/name`, in the order of the file.

    A block names a notebook; a list of blocks are several of the same notebook. Lists are axes, and every combination
    of their values is a run; a value that is itself a mapping sets several parameters at once.
    `reads: {notebook: [names]}` gives a run the folders of that notebook's runs (parameter `reads`), those of the
    blocks before its own that agree with it in the parameters named; `reads: {notebook: {name: value}}` those that have
    this value (no value: the run's own). A notebook's parameter `grid` is the file's name: a copy of a grid writes
    figures of its own.
    results: where the grid's runs are; one that is there keeps its folder, whatever the order of keys in the file.
    Raises ParameterError that names file, line and all problems.
    """
    path = Path(path)
    problems: list[tuple[int, str]] = []
    blocks = _read_blocks(path, problems)
    notebooks = [notebook for notebook, _ in blocks]
    points: dict[str, Point] = {}
    for number, (notebook, block) in enumerate(blocks):
        try:
            known = read_parameters(notebook)
        except ParameterError as error:
            problems.append((block.line, str(error)))
            continue
        before = list(points.values())
        wanted = _read_wanted(block, before, known, problems)
        defaults = complete(known, {})
        made = []
        for axes, given, lines in _combine(block, problems):
            given |= {"grid": path.stem} if "grid" in defaults else {}
            if wrong := find_problems(notebook, known, given):
                problems += [(lines[name], text) for name, text in wrong.items()]
                continue
            checked = complete(known, given)
            given = {name: checked[name] for name in given}
            name = _name({axis: given[axis] for axis in axes}, given, defaults, results and Path(results) / notebook)
            read = [o.key for o in before if o.notebook in wanted and _agrees(o, wanted[o.notebook], checked)]
            point = Point(notebook, name, given, tuple(read), checked)
            if any(other.notebook == notebook and other.checked == checked for other in points.values()):
                problems.append((block.line, f"{point.key} is there twice"))
            if len(name.encode()) > LONGEST:
                long = f"{name} is too long a name for a folder, {len(name.encode())} bytes of at most {LONGEST}"
                problems.append((block.line, f"{long}: write [value] as value where it does not vary, to leave it out"))
            points[point.key] = point
            made.append(point)
        unread = False
        for source, agreement in wanted.items():
            others = [other for other in before if other.notebook == source]
            if source not in notebooks:
                why = f"the grid has no block of it{nearest(source, notebooks)}"
            elif source not in notebooks[:number]:
                why = "its block stands behind, move it up"
            elif made and others and not any(key.startswith(f"{source}/") for point in made for key in point.reads):
                why = _explain(agreement, others)
            else:
                continue
            unread = True
            problems.append((block["reads"].lines[source], f"{notebook} reads no run of {source}: {why}"))
        if (wanted and not unread) or not block.get("reads"):
            missing = next((each.problem([]) for each in known if each.name == "reads"), None)
            line = block.lines.get("reads", block.line)
            problems += [(line, f"{point.key}: {missing}") for point in made if missing and not point.reads]
    if problems:
        raise ParameterError("\n".join(f"{path}:{line}: {text}" for line, text in sorted(set(problems))))
    return points


def _read_blocks(path: Path, problems: list) -> list[tuple[str, Lined]]:
    """Returns notebook and block of each block of a file; raises ParameterError where it is no YAML."""
    try:
        data = read_lined(path, problems, ParameterError)
    except FileNotFoundError:
        grids = sorted(each.stem for each in paths.GRIDS.glob("*.yaml"))
        there = f"grids/ holds {', '.join(grids)}"
        raise ParameterError(f"{path} is not there{nearest(path.stem, grids)}; {there}") from None
    if not isinstance(data, Lined) or not isinstance(data.get("runs"), Lined) or not data["runs"]:
        had = f" (is runs meant, where {', '.join(map(str, data))} stands?)" if isinstance(data, dict) and data else ""
        raise ParameterError(f"{path}:1: a grid is `runs:`, and under it notebooks with their parameters{had}")
    for name in data:
        if name != "runs" and not str(name).startswith("x-"):
            problems.append(
                (
                    data.lines[name],
                    f"{name} stands beside runs and is never read: move it under runs "
                    "(x-... may stand there, to hold anchors)",
                )
            )
    blocks = []
    for notebook, found in data["runs"].items():
        line = data["runs"].lines[notebook]
        parts = found if isinstance(found, list) else [found]
        if not parts:
            problems.append((line, f"{notebook} has an empty list of blocks and runs nothing"))
        for part in parts:
            if part is None:
                part = Lined()
            if isinstance(part, Lined):
                part.line = part.line or line
                blocks.append((str(notebook), part))
            else:
                problems.append((line, f"{notebook}: {part!r} must be parameters with values, `name: value`"))
    return blocks


def _combine(block: Lined, problems: list) -> Iterable[tuple[list[str], dict, dict[str, int]]]:
    """Yields for each point the names that its axes set, its parameters, and the line of each."""
    fixed, lines, axes = {}, {}, {}
    for axis, values in block.items():
        line = block.lines[axis]
        if axis == "reads":
            continue
        if not isinstance(values, list):
            fixed[axis], lines[axis] = values, line
            continue
        if not values:
            problems.append((line, f"{axis} is an axis without values and runs nothing: give it some or leave it out"))
        axes[axis] = [
            (value, value.lines) if isinstance(value, Lined) else ({axis: value}, {axis: line}) for value in values
        ]
    order = [*fixed, *axes]  # what stands behind wins
    for name, other in itertools.permutations(order, 2):
        behind = other in axes and (name in fixed or order.index(other) > order.index(name))
        if behind and axes[other] and all(name in values for values, _ in axes[other]):
            problems.append((block.lines[name], f"{name} is never used, as all of {other} have their own"))
    for chosen in itertools.product(*axes.values()):
        given, places = dict(fixed), dict(lines)
        for values, found in chosen:
            given |= values
            places |= {name: found[name] for name in values}
        for name in [name for name in NOT_HERE if name in given]:
            problems.append((places[name], f"{name} cannot be given here: {NOT_HERE[name]}"))
            del given[name]
        yield [name for values, _ in chosen for name in values if name in given], given, places


def _read_wanted(block: Lined, before: list[Point], known: list[Parameter], problems: list) -> dict[str, dict]:
    """Returns for each notebook that a block reads the parameters in which runs agree, with values or None."""
    reads = block.get("reads", {})
    own = {parameter.name for parameter in known}
    if "reads" in block and (not isinstance(reads, Lined) or "reads" not in own):
        why = "must be a mapping, e.g. {10_trace: [corpus]}" if "reads" in own else "is no parameter of this notebook"
        problems.append((block.lines["reads"], f"reads: {reads!r} {why}"))
        return {}
    wanted = {}
    for source, names in reads.items():
        line = reads.lines[source]
        if not isinstance(names, list | Lined) or not all(isinstance(name, str) for name in names):
            problems.append((line, f"reads: {source}: {names!r} must be names of parameters, [] for all runs"))
            continue
        agreement = dict(names) if isinstance(names, Lined) else dict.fromkeys(names)
        other = next((point for point in before if point.notebook == source), None)
        theirs = {parameter.name: parameter for parameter in read_parameters(source)} if other else {}
        wrong = []
        for name, value in agreement.items() if other else ():
            for notebook, has in ((source, theirs), ("this notebook", own if value is None else theirs)):
                if name not in has:
                    wrong.append(f"reads: {source}: {name} is no parameter of {notebook}{nearest(name, has)}")
            if name in theirs and value is not None:
                agreement[name] = theirs[name].convert(value)
                wrong += [text for text in [theirs[name].problem(agreement[name])] if text]
        problems += [(line, text) for text in wrong]
        if not wrong:
            wanted[source] = agreement
    return wanted


def _agrees(other: Point, wanted: Mapping, checked: Mapping) -> bool:
    return all(other.checked[name] == (checked[name] if value is None else value) for name, value in wanted.items())


def _explain(wanted: Mapping, others: list[Point]) -> str:
    """Returns why none of the others agrees."""
    for name, value in wanted.items():
        values = sorted({str(other.checked[name]) for other in others})
        if value is not None and str(value) not in values:
            return f"none has {name}={value!r}{nearest(value, values)}; there are {', '.join(values)}"
    return f"none agrees in {', '.join(wanted)}"


def _name(axes: Mapping, given: Mapping, defaults: Mapping, folder: Path | None) -> str:
    """Returns the name of a run's folder: the values of its axes, and a hash of the parameters that are no defaults.

    With the hash, another seed or number of shots is another run beside the old one, and nothing is overwritten. In
    `folder`, a run of this hash that is there already keeps its name; so does one of before, when the hash was of all
    parameters that the grid gave.
    """
    flat = {
        k: v for name, value in axes.items() for k, v in (value if isinstance(value, dict) else {name: value}).items()
    }
    flat = {name: "+".join(map(str, value)) if isinstance(value, list) else value for name, value in flat.items()}
    words = [value if isinstance(value, str) else f"{name}={value}" for name, value in flat.items()]
    words = [re.sub(r"[^\w.+=-]+", "_", word).strip("_.") for word in words]
    digests = [_hash({name: value for name, value in given.items() if value != defaults[name]}), _hash(given)]
    name = "-".join([*words, digests[0]])
    names = sorted(each.name for each in folder.iterdir()) if folder and folder.is_dir() else []
    there = [each for digest in digests for each in names if each.rpartition("-")[2] == digest]
    return name if name in there or not there else there[0]


def _hash(parameters: Mapping) -> str:
    text = json.dumps(dict(parameters), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:6]
