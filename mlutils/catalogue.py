"""Which files there are to be had, and from where: those of models, and those that the files of corpora name."""

import functools
from pathlib import Path

import yaml

from mlutils import paths
from mlutils.lines import read_lined


@functools.cache
def catalogue() -> dict[str, dict]:
    """Returns the entries of `data/sources.yaml`, and those of all files in `data/corpora`, by name."""
    entries = yaml.safe_load((paths.DATA / "sources.yaml").read_text(encoding="utf-8"))
    for path in sorted(paths.CORPORA.glob("*.yaml")):
        entries |= read_entries(path, path.stem)
    return entries


def read_entries(path: Path, name: str) -> dict[str, dict]:
    """Returns the entries under `files` of a corpus's file, by `name-FILE`; each has the corpus's licence and citation.

    Raises ValueError, with file and line, where it is no YAML.
    """
    about = read_lined(path, [], ValueError)
    if not isinstance(about, dict) or not isinstance(files := about.get("files") or {}, dict):
        raise ValueError(f"{path}:1: a corpus is a mapping of keys to values, its `files` one of names to entries")
    shared = {key: about[key] for key in ("licence", "citation") if key in about}
    entries = {}
    for file, entry in files.items():
        entry = shared | (entry if isinstance(entry, dict) else {"path": str(entry)})
        if "archive" in entry:
            entry["archive"] = f"{name}-{entry['archive']}"
        if "path" in entry:
            entry["path"] = str(path.resolve().parent / Path(str(entry["path"])).expanduser())
        entries[f"{name}-{file}"] = entry
    return entries
