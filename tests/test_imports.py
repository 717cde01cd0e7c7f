"""Dependencies run one way: a test walks the imports."""

import ast

import pytest

from mlutils import fingerprints, paths

FILES = sorted((paths.ROOT / "mlutils").rglob("*.py"))
LIGHT = (
    "readouts",
    "metrics",
    "measures",
    "noise_floor",
    "traces",
    "corpora",
    "sources",
    "archives",
    "capacity",
    "paths",
)
FORBIDDEN = {
    "corpora": ("tracing", "training", "readouts", "reporting", "traces", "runs"),
    "tracing": ("training", "readouts", "reporting"),
    "readouts": ("tracing", "training", "reporting"),
    "reporting": ("tracing", "training"),
    "metrics": ("corpora", "tracing", "training", "readouts", "reporting"),
    "measures": ("corpora", "tracing", "training", "readouts", "reporting"),
}


def place(file):
    return file.relative_to(paths.ROOT / "mlutils").with_suffix("").parts


def imported(file):
    """Returns the modules that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(place(file)))
def test_imports_run_one_way(file):
    wing = place(file)[0]
    found = set(imported(file))
    if wing in LIGHT:
        assert not {name for name in found if name.split(".")[0] in ("torch", "transformers", "peft", "trl")}
    for other in FORBIDDEN.get(wing, ()):
        assert not {name for name in found if name == f"mlutils.{other}" or name.startswith(f"mlutils.{other}.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(place(file)))
def test_modules_stay_readable(file):
    assert len(file.read_text().splitlines()) <= 360, "split it by meaning"


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(place(file)))
def test_fingerprints_find_the_imports_that_parsing_finds(file):
    parsed = "\n".join(f"import {name}" for name in imported(file) if name.split(".")[0] == "mlutils")
    assert fingerprints.find_imported(file.read_text()) == fingerprints.find_imported(parsed)
