"""What the runs of a grid left behind, for the page: tables read once, figures copied beside each other, links."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup

from mlutils import runs
from mlutils.reporting import drawing
from mlutils.reporting.drawing import Picture

TEXTS = {"seed": str, "tuned_on": str}  # columns that hold names, though they may look like numbers


@dataclass
class Collected:
    """The finished runs of a grid (`runs.collect`), the folder of its page, and that of its published figures."""

    records: Sequence[dict]
    root: Path
    publish: Path
    _read: dict[Path, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self):
        self.publish.mkdir(parents=True, exist_ok=True)

    def of(self, notebook: str = "", **parameters) -> list[dict]:
        """Returns the records of a notebook's runs (of all) that have these parameters."""
        wanted = parameters.items()
        found = [record for record in self.records if notebook in ("", record["notebook"])]
        return [record for record in found if all(record["parameters"].get(name) == value for name, value in wanted)]

    def table(self, name: str, notebook: str = "", *columns: str) -> pd.DataFrame:
        """Returns the rows of `<name>.csv` of all such runs that have it, joined; empty where none has.

        columns: parameters whose values are added to the rows.
        """
        found = [
            self._table(file).assign(**{column: record["parameters"][column] for column in columns})
            for record in self.of(notebook)
            if (file := record["folder"] / f"{name}.csv").exists()
        ]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def _table(self, file: Path) -> pd.DataFrame:
        if file not in self._read:
            known = pd.read_csv(file, nrows=0).columns
            texts = {name: kind for name, kind in TEXTS.items() if name in known}
            self._read[file] = pd.read_csv(file, dtype=texts).fillna(dict.fromkeys(texts, ""))
        return self._read[file]

    def pictures(self, name: str, notebook: str, public: str = "", **parameters) -> list[Picture]:
        """Returns the figures called `name`, or `<name>-...`, of such runs, copied into the published folder.

        public: their name there, where it differs; `{stem}` is the figure's own name, `{run}` the run's.
        """
        found = []
        for record in self.of(notebook, **parameters):
            for file in sorted(record["folder"].glob(f"{name}*.png")):
                if file.stem == name or file.stem.startswith(f"{name}-"):
                    place = (public or "{stem}").format(stem=file.stem, run=record["folder"].name)
                    for suffix in ("png", "pdf", "json"):
                        shutil.copyfile(file.with_suffix(f".{suffix}"), self.publish / f"{place}.{suffix}")
                    found.append(drawing.load(self.publish / f"{place}.png"))
        return found

    def show(self, name: str, notebook: str, caption: str = "", public: str = "", **parameters) -> HTML:
        """Returns `pictures` to display, with a caption; without one, the first sentence of each alternative text."""
        found = self.pictures(name, notebook, public, **parameters)
        return HTML("".join(each.html(caption or each.alt.partition(". ")[0].rstrip(".") + ".") for each in found))

    def links(self, *notebooks: str) -> HTML:
        """Returns links to the reports of these notebooks' runs, folded."""
        found = [record for notebook in notebooks for record in self.of(notebook)]
        items = [
            Markup('<li><a href="{}">{}: {}</a></li>').format(
                os.path.relpath(runs.find_report(record, self.root), self.root),
                record["notebook"],
                record["folder"].name,
            )
            for record in found
        ]
        if not items:
            return HTML(f"<p>No run of {' or '.join(notebooks)} in this grid.</p>")
        title = f"{len(items)} runs behind this" if len(items) > 1 else "The run behind this"
        return HTML(f'<details class="runs"><summary>{title}</summary><ul>{"".join(items)}</ul></details>')
