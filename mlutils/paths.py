"""The only module that knows folders."""

import os
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
DOCS = ROOT / "docs"
PUBLISHED = DATA / "published"
FIGURES = ROOT / "figures"
GRIDS = ROOT / "grids"
NOTEBOOKS = ROOT / "notebooks"
RELEASES = DATA / "runs"
CORPORA = DATA / "corpora"
LABELS = DATA / "labels"
RESULTS = ROOT / "results"
TEMPLATES = ROOT / "templates"


def cache() -> Path:
    """Returns the folder for downloads and converted models, outside the clone (`ONE_LABEL_CACHE` moves it)."""
    folder = os.environ.get("ONE_LABEL_CACHE")
    return Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("one-label"))


def mirror() -> Path | None:
    """Returns the folder of `ONE_LABEL_MIRROR` that holds data files at hand, or None where it is not set."""
    folder = os.environ.get("ONE_LABEL_MIRROR")
    return Path(folder).expanduser().resolve() if folder else None
