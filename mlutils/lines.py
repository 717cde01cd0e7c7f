"""YAML files that people write, with the line of every key, so that whatever is wrong can be named with its place."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

NUMBERS = {  # of YAML 1.2 and JSON; PyYAML's are those of YAML 1.1: 1e-3 is text there, 010 eight, 1:30 ninety
    "tag:yaml.org,2002:int": (int, r"[-+]?\d+$"),
    "tag:yaml.org,2002:float": (float, r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$"),
}


class Lined(dict):
    """A mapping of a file, with the line where it begins and those of its keys."""

    line = 0
    lines: Mapping[object, int] = {}


class _Loader(yaml.SafeLoader):
    """Keeps lines, and reads numbers as YAML 1.2 does."""

    def construct_lines(self, node):
        made = Lined()
        yield made
        made.update(self.construct_mapping(node))  # puts what is merged (<<) into the node
        made.line = node.start_mark.line + 1
        made.lines = {self.construct_object(key): key.start_mark.line + 1 for key, _ in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lines)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in {*NUMBERS, "tag:yaml.org,2002:timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_kind, _form) in NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_form), list("-+.0123456789"))
    _Loader.add_constructor(_tag, lambda loader, node, kind=_kind: kind(node.value))


def read_lined(path: Path, problems: list[tuple[int, str]], error: type[Exception]):
    """Returns what a file holds, mappings as `Lined`; keys that are there twice become problems (line, what is wrong).

    Raises `error`, which names file and line, where the file is no YAML, and FileNotFoundError where there is none.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        problems += _find_repeated(root)
        return loader.construct_document(root) if root else None
    except UnicodeDecodeError as cause:
        raise error(f"{path}:{line_of(cause)}: not UTF-8 ({cause.reason}): save the file in UTF-8") from cause
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        text = getattr(cause, "problem", None) or str(cause)
        hint = ": indent by spaces, not tabs" if "\\t" in text else ""
        raise error(f"{path}:{mark.line + 1 if mark else 1}: {text}{hint}") from cause


def line_of(error: UnicodeDecodeError) -> int:
    """Returns the line of the byte that is not in the encoding, counted from 1."""
    return error.object[: error.start].count(b"\n") + 1


def _find_repeated(root: yaml.Node | None) -> Iterable[tuple[int, str]]:
    """Yields line and problem of each key that a mapping has twice: YAML would take the last."""
    seen, left = set(), [root] if root else []
    while left:
        node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        left += [value for _, value in node.value]
        first: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in first:
                yield line, f"{key.value} is there twice, first in line {first[key.value]}: join them (blocks of one "
                "notebook are a list, several anchors <<: [*a, *b])"
            first.setdefault(key.value, line)
