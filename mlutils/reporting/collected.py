"""What the runs of a grid left behind, as one table, and links to their reports."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def gather(records: Sequence[dict], name: str) -> pd.DataFrame:
    """Returns the rows of a table (`<name>.csv`) of all runs that have it, joined; empty where none has."""
    found = [pd.read_csv(file) for record in records if (file := record["folder"] / f"{name}.csv").exists()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def reports(records: Sequence[dict], notebook: str, root: Path) -> tuple[tuple[str, str], ...]:
    """Returns text and link of the reports of a notebook's runs, relative to the page."""
    return tuple(
        (f"{notebook}: {record['folder'].name}", os.path.relpath(record["folder"] / "report.html", root))
        for record in records
        if record["notebook"] == notebook
    )
