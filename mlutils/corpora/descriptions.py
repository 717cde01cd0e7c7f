"""What a corpus's own file says of it: `data/corpora/NAME.yaml`, or a path. The format is told in data/README.md."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from mlutils import paths, sources
from mlutils.catalogue import read_entries
from mlutils.corpora.corpus import SPLITS, choose
from mlutils.lines import Lined, read_lined
from mlutils.parameters import nearest

SUFFIXES = (".yaml", ".yml")
TABLES = ("documents", "annotations")


NEEDED = {  # one of each must be there
    frozenset({"labels"}): "say which there are, [...] or {name: [as the files have it, ...]}",
    frozenset({"gold"}): "say how gold sets follow: published, {share: 0.5}, {count: 2} or {mean: 2.5}",
    frozenset(TABLES): "say which table holds the texts",
}


class DescriptionError(ValueError):
    """Raised where a corpus's file is not what it should be; names file, line and all problems."""


@dataclass(frozen=True)
class Description:
    """A corpus as its file says, options chosen."""

    name: str  # as it was asked for: of `data/corpora`, or a path
    file: Path
    data: Lined
    options: Mapping = field(default_factory=dict)  # those that are chosen

    @property
    def title(self) -> str:
        """Returns how figures and tables write the corpus."""
        return self.data.get("title", self.file.stem)

    @functools.cached_property
    def prefix(self) -> str:
        """Returns what the names of its files begin with in `sources`, followed by a hyphen."""
        return _prefix(self.file)

    @functools.cached_property
    def raw(self) -> tuple[str, ...]:
        """Returns the labels as the files have them (R), those that mean none last."""
        labels, none = self.data.get("labels") or {}, list(self.data.get("none", ()))
        pooled = [each for pool in labels.values() for each in pool] if isinstance(labels, dict) else labels
        return tuple(dict.fromkeys([each for each in pooled if each not in none] + none))

    @functools.cached_property
    def pools(self) -> dict[str, list[int]]:
        """Returns for each label, as the model reads it, the raw ones that it stands for (indices)."""
        labels, none = self.data["labels"], self.data.get("none", ())
        if not isinstance(labels, dict):
            labels = {each: [each] for each in labels if each not in none}
        return {label: [self.raw.index(each) for each in pool] for label, pool in labels.items()}

    def pool(self, chosen: np.ndarray) -> np.ndarray:
        """Returns labels (N, L) by union of raw ones (N, R), for bool, or by their maximum, for numbers."""
        return np.stack([chosen[:, pool].max(axis=1) for pool in self.pools.values()], axis=1)

    def files_of(self, table: str, wanted: tuple[str, ...] = SPLITS["all"]) -> list[tuple[str | None, str]]:
        """Returns split (None where the file does not decide it) and source of each file of a table."""
        files = (self.data.get(table) or {}).get("files", [])
        by_split = files if isinstance(files, dict) else {None: files}
        return [
            (split, f"{self.prefix}-{file}")
            for split, named in by_split.items()
            for file in (named if isinstance(named, list) else [named])
            if split in (None, *wanted)
        ]

    def choose(self, options: Mapping) -> "Description":
        """Returns the description by these options, the first choice of each that is not given.

        Raises ValueError for a choice that does not exist.
        """
        made, chosen = Lined(self.data), {}
        for name, choices in self.data.get("options", {}).items():
            value = choose(name, options.get(name, next(iter(choices))), tuple(choices))
            if isinstance(several := choices[value], list):  # the first that is at hand, else the first
                at_hand = (each for each in several if self._is_at_hand(choices[each]))
                value = next(at_hand, several[0])
            made |= choices[value]
            chosen[name] = value
        made.lines = self.data.lines
        return Description(self.name, self.file, made, chosen)

    def _is_at_hand(self, choice: Mapping) -> bool:
        made = Description(self.name, self.file, Lined(choice))
        needs = [f"{self.prefix}-{each}" for each in choice.get("needs", ())]
        return all(map(sources.at_hand, needs + [file for table in TABLES for _, file in made.files_of(table)]))


def names() -> list[str]:
    """Returns the names of the corpora in `data/corpora`."""
    return sorted(path.stem for path in paths.CORPORA.glob("*.yaml"))


def has(name: str) -> bool:
    """Returns whether there is a file of a corpus: of this name, or at this path."""
    return name.endswith(SUFFIXES) or name in names()


def titles() -> dict[str, str]:
    """Returns the titles of the corpora in `data/corpora`, by name."""
    return {name: read(name).title for name in names()}


def published() -> dict[str, Lined]:
    """Returns the numbers that the paper prints about a corpus beside its tables, by name."""
    return {name: found for name in names() if (found := read(name).data.get("published"))}


def title(name: str) -> str:
    """Returns how a corpus is written in figures and tables: its file's name where that is not at hand."""
    try:
        return read(name).title
    except (ValueError, sources.SourceError):
        return short_name(name)


def short_name(name: str) -> str:
    """Returns what stands for a corpus in names of files: of a path its last part, without the suffix."""
    return Path(name).stem if name.endswith(SUFFIXES) else name


def read(name: str) -> Description:
    """Returns what a corpus's file says, before options are chosen.

    name: of `data/corpora`, or a path that ends in .yaml, from here or from the repository. Raises ValueError for an
    unknown name, SourceError for a path where nothing is, DescriptionError for a file that is not what it should be.
    """
    file = paths.CORPORA / f"{name}.yaml"
    if name.endswith(SUFFIXES):
        given = Path(name).expanduser()
        file = next((each for each in (given, paths.ROOT / given) if each.is_file()), None)
        if file is None:
            raise sources.SourceError(f"the corpus {name} is not there")
    elif not has(name):
        there = f"there is {', '.join(names())}, or the path of a file that ends in .yaml"
        raise ValueError(f"no corpus is called {name!r}{nearest(name, names())}; {there}")
    return Description(name, file, _read(file, file.stat().st_mtime_ns))


@functools.cache
def _read(file: Path, written: int) -> Lined:
    problems: list[tuple[int, str]] = []
    data = read_lined(file, problems, DescriptionError)
    if not isinstance(data, Lined):
        raise DescriptionError(f"{file}:1: a corpus is a mapping of keys to values: see data/README.md")
    problems += _find_problems(data)
    if problems:
        raise DescriptionError("\n".join(f"{file}:{line}: {text}" for line, text in sorted(set(problems))))
    if file.parent != paths.CORPORA:
        sources.add(read_entries(file, _prefix(file)))
    return data


def _prefix(file: Path) -> str:
    if file.parent == paths.CORPORA:
        return file.stem
    return f"{file.stem}-{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"  # two may be called alike


def _find_problems(data: Lined) -> Iterator[tuple[int, str]]:
    """Yields line and problem of everything in a file that cannot be meant."""
    for error in _schema().iter_errors(data):
        yield from _tell(data, error)
    if "reader" in data:
        return
    choices = [each for option in (data.get("options") or {}).values() for each in option.values()]
    parts = [data, *(each for each in choices if isinstance(each, Lined))]
    given = {key for part in parts for key in part}
    for key, why in NEEDED.items():
        if key.isdisjoint(given):
            yield 1, f"{' or '.join(sorted(key))} is missing: {why}"
    files = data.get("files") or {}
    for part in parts:
        shares = (part.get("splits") or {}).get("hash", {"train": 1})
        if abs(sum(each for each in shares.values() if isinstance(each, int | float)) - 1) > 1e-9:
            yield part.lines["splits"], f"splits: hash: {dict(shares)} must add up to 1"
        for name in TABLES:
            table = part.get(name) or Lined()
            named = table.get("files", [])
            named = named.values() if isinstance(named, dict) else [named]
            for each in [one for some in named for one in (some if isinstance(some, list) else [some])]:
                if each not in files:
                    there = ", ".join(files) or "nothing"
                    yield (
                        table.lines["files"],
                        f"{name}: files: {each!r} is not in files{nearest(each, files)}: {there}",
                    )


@functools.cache
def _schema() -> Draft202012Validator:
    with (paths.DATA / "corpus_schema.yaml").open(encoding="utf-8") as file:
        return Draft202012Validator(yaml.safe_load(file))


def _tell(data: Lined, error: ValidationError) -> Iterator[tuple[int, str]]:
    """Yields line and problem of what a schema refuses, with what it allows there."""
    place, line = data, 1
    for key in error.absolute_path:
        line = getattr(place, "lines", {}).get(key, getattr(place, "line", 0) or line)
        place = place[key]
    where, rule = ": ".join(str(key) for key in error.absolute_path), error.validator_value
    where += ": " if where else ""
    if error.validator == "additionalProperties" and rule is False:
        known = error.schema.get("properties", {})
        for key in (key for key in place if key not in known and not str(key).startswith("x-")):
            there = f"{nearest(key, known)}; there are {', '.join(known)}"
            yield place.lines.get(key, line), f"{where}{key} is no key{there}"
    elif error.validator == "required":
        yield place.line or line, f"{where}{', '.join(key for key in rule if key not in place)} is missing"
    elif error.validator == "enum":
        yield (
            line,
            f"{where}{place!r} is unknown{nearest(place, map(str, rule))}; there are {', '.join(map(str, rule))}",
        )
    else:
        quotes = " (put it in quotes)" if "string" in rule and not isinstance(place, list | dict) else ""
        meant = " or ".join([rule] if isinstance(rule, str) else rule) if error.validator == "type" else error.message
        yield line, f"{where}{place!r} must be {meant}{quotes}" if error.validator == "type" else f"{where}{meant}"
