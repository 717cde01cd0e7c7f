"""Parameters: what a notebook may be given, and whether what it is given is that.

It stands in the notebook's cell tagged `parameters`: one a line, typed, with a comment. The part of the comment before
a semicolon lists the choices, if it holds ` | `, or names the folder whose files they are (`a file of data/corpora`:
without the ending, or any path), or says the range of a number: `1 or more`, `above 0`, `0 to 1`, `above 0 to 1`, `0 to
below 1`. Of texts it says how many there must be: `reads: list[str] = []  # 1 or more; folders` must be given, as its
default is none.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import nbformat

from mlutils import paths

NUMBER = r"\d+(?:\.\d+)?"
RANGE = re.compile(rf"(above )?({NUMBER})(?: (or more)| to (below )?({NUMBER}))?")
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # a number that YAML 1.1 reads as text, unless as 1.0e-3
FILES = "a file of "
HINTS = {  # what papermill and grids make of a value that is meant otherwise
    "list": "a list is given with -y '{{{name}: [...]}}', as -p makes a text of it, and in a grid as [[...]]",
    "dict": "a mapping is given with -y '{{{name}: {{...}}}}', as -p makes a text of it",
    "str": "a text that looks like another value is given with -r {name} TEXT, and in a grid in quotation marks",
    "bool": "-p takes True or False, a grid true or false",
}


class ParameterError(ValueError):
    """Raised where parameters are unknown, of another type, not among the choices or out of range; names all."""


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
        if self._allowed.startswith(FILES):
            return sorted(path.stem for path in (paths.ROOT / self._allowed.removeprefix(FILES)).glob("*.yaml"))
        return [choice.strip() for choice in self._allowed.split(" | ")] if " | " in self._allowed else []

    @property
    def range(self) -> str:
        """Returns the range that the comment allows, in its words; '' where it gives none."""
        found = RANGE.fullmatch(self._allowed)
        return self._allowed if found and any(found.group(1, 3, 5)) else ""

    @property
    def _allowed(self) -> str:
        return self.comment.partition(";")[0].strip()

    def convert(self, value):
        """Returns a value as its type has it: 1 for a float is 1.0, 2.0 for an int 2, the text 5e-05 a number."""
        return _convert(value, self.kind)

    def problem(self, value) -> str | None:
        """Returns what is wrong with a converted value, or None."""
        if not _fits(value, self.kind):
            hint = HINTS.get(self.kind.partition("[")[0], "").format(name=self.name)
            about = "; ".join(text for text in (self.comment, hint) if text)
            return f"{self.name}={value!r} must be of type {self.kind} ({about})"
        if isinstance(value, list) and (self.choices or self.range):
            if not value:
                return f"{self.name}=[] must have at least one value ({self.comment}), e.g. -y '{{{self.name}: [...]}}'"
            if len(set(value)) < len(value):
                return f"{self.name}={value!r} has a value twice: leave one out"
            if self.kind == "list[str]" and self.range:  # of their number
                few = not self._is_in_range(len(value))
                return f"{self.name}={value!r} must be {self.range} ({self.comment})" if few else None
        for each in value if isinstance(value, list) else [value]:
            is_path = self._allowed.startswith(FILES) and str(each).endswith(".yaml")
            if self.choices and str(each) not in self.choices and not is_path:
                return f"{self.name}={each!r} must be one of {', '.join(self.choices)}{nearest(each, self.choices)}"
            if self.range and not self._is_in_range(each):
                about = self.comment.partition(";")[2].strip()
                return f"{self.name}={each!r} must be {self.range}" + (f" ({about})" if about else "")
        return None

    def _is_in_range(self, value: float) -> bool:
        above, low, _, below, high = RANGE.fullmatch(self.range).groups()
        over = value > float(low) if above else value >= float(low)  # false for NaN
        if high is None:
            return over and value != float("inf")
        return over and (value < float(high) if below else value <= float(high))


def _convert(value, kind: str):
    if kind.startswith("list[") and isinstance(value, list):
        return [_convert(each, kind[5:-1]) for each in value]
    if kind == "dict" and isinstance(value, dict):
        return {str(name): _convert(each, "int" if isinstance(each, float) else "dict") for name, each in value.items()}
    if kind in ("int", "float") and isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if kind == "float" and type(value) is int and abs(value) < 2**53:
        return float(value)
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _fits(value, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(each, kind[5:-1]) for each in value)
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict}[kind])


def nearest(name, names: Iterable[str]) -> str:
    """Returns ` (is ... meant?)` with the one of the names that is most like another, or '' where none is."""
    found = difflib.get_close_matches(str(name), list(names), n=1)
    return f" (is {found[0]} meant?)" if found else ""


def read_parameters(notebook: str) -> list[Parameter]:
    """Returns the parameters of `notebooks/<notebook>.ipynb`.

    Raises ParameterError where there is no such notebook, where the cell is missing or a line has no type or no value:
    papermill's own reading (`papermill --help-notebook`) passes over a line that it cannot read, one with `=` in its
    comment for instance.
    """
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        known = sorted(each.stem for each in paths.NOTEBOOKS.glob("*.ipynb"))
        raise ParameterError(f"{notebook} is no notebook{nearest(notebook, known)}; there are {', '.join(known)}")
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


def find_problems(notebook: str, known: Sequence[Parameter], given: Mapping) -> dict[str, str]:
    """Returns what is wrong with the values given to a notebook of these parameters, by name."""
    names = {parameter.name: parameter for parameter in known}
    problems = {}
    for name, value in given.items():
        if name not in names:
            problems[name] = f"{name} is no parameter of {notebook}{nearest(name, names)}; it has {', '.join(names)}"
        elif problem := names[name].problem(names[name].convert(value)):
            problems[name] = problem
    return problems


def complete(known: Sequence[Parameter], given: Mapping) -> dict:
    """Returns all parameters, those given as their types have them: equal parameters are equal in writing then."""
    return {each.name: each.convert(given[each.name]) if each.name in given else each.default for each in known}


def check_parameters(notebook: str, given: Mapping) -> dict:
    """Returns the notebook's parameters with the given values, as their types have them.

    Raises ParameterError that names every unknown, ill-typed or not allowed value at once.
    """
    known = read_parameters(notebook)
    if problems := find_problems(notebook, known, given):
        raise ParameterError("; ".join(problems.values()))
    return complete(known, given)
