"""Which code a notebook's numbers depend on, as a hash: by it runs that are older than the code are marked."""

import functools
import hashlib
import re
from pathlib import Path

import nbformat

from mlutils import paths

ASKING = ("05_miniatures", "06_finetune", "07_encoder", "10_trace")  # notebooks that load a language model or train
# Parts of `mlutils` that decide what is found.
DECIDING = ("corpora", "tracing", "training", "traces.py", "writer.py", "sets.py")
# Read by their form, as every run begins with it: parsing all files takes the better part of a second.
IMPORT = re.compile(r"^\s*(?:from\s+(mlutils[\w.]*)\s+import\s+(\([^)]*\)|[^\n#]*)|import\s+(mlutils[\w.]*))", re.M)


@functools.cache
def read(notebook: str) -> str:
    """Returns a hash of the modules of `mlutils` that a notebook imports, and of those that they import.

    For one that asks a model or trains only those that decide what is found count (`DECIDING`): a changed figure makes
    no trace older.
    """
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    left = find_imported("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    known: set[Path] = set()
    while left:
        known |= left
        left = set().union(*map(_find_imported_by, left)) - known
    names = {file: file.relative_to(paths.ROOT / "mlutils").as_posix() for file in known}
    if notebook in ASKING:
        names = {file: name for file, name in names.items() if name.split("/")[0] in DECIDING}
    digest = hashlib.sha256()
    for file, name in sorted(names.items()):
        digest.update(name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _find_imported_by(file: Path) -> set[Path]:
    return find_imported(file.read_text(encoding="utf-8"))


def find_imported(source: str) -> set[Path]:
    """Returns the files of `mlutils` that a source text imports, packages with their `__init__.py`."""
    wanted = set()
    for module, names, plain in IMPORT.findall(source):
        imported = [name.split()[0] for name in names.strip("() \n").split(",") if name.strip()]
        wanted |= {module or plain, *(f"{module}.{name}" for name in imported)}
    found = set()
    for name in wanted:
        parts = name.split(".")
        for place in (paths.ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)):
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return found
