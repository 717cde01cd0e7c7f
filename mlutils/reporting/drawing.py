"""The drawing kit of all figures: their style, panels, marks, axes and words, and saving them, the same bytes every
time, with the text for readers who cannot see them.
"""

import base64
import html
import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image

from mlutils.files import replacing, write_json
from mlutils.reporting.looks import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, look

STYLE = Path(__file__).with_name("paper.mplstyle")
COLUMN, TEXT = 3.03, 6.30  # widths of an ACL page, inches


def line(colour: str, marker: str, dash: str = "-", **more) -> dict:
    """Returns the style of a line and its marks."""
    return dict(color=colour, marker=marker, linestyle=dash) | more


def dots(style: dict, **more) -> dict:
    """Returns the style of a line's marks alone."""
    return style | {"linestyle": "none"} | more


LINES = (line(BLUE, "o"), line(RED, "s", "--"), line(GREEN, "^", "-."), line(ORANGE, "D", ":"), line(PINK, "v"))
LINES += (line(SKY, "P", "--"),)


class Drawing(Figure):
    """A figure in the paper's style; `alt` says what it shows to a reader who cannot see it."""

    def __init__(self, width: float = COLUMN, height: float = 2.2, alt: str = ""):
        matplotlib.style.use(STYLE)
        # Not pyplot's: nothing stays open, and a notebook shows it once.
        super().__init__(figsize=(width, height), layout="constrained")
        self.alt = alt

    def legend_below(self, handles: Sequence, columns: int) -> None:
        """Draws the legend of all panels below them."""
        self.legend(handles=handles, loc="outside lower center", ncols=columns)


def panels(
    keys: Iterable[Hashable], columns: int, line: float, room: float, width: float = 0, grid: str = "y", **options
) -> tuple[Drawing, dict]:
    """Returns a drawing and its panels (key -> axes), so many `columns` beside each other.

    A key None leaves its place empty. line: height of a line of panels, room: of what stands around them (inches);
    width: 0 is that of a column for one panel, of the text for several; grid: x, y or both; options: of
    `Figure.subplots`.
    """
    keys = list(keys)
    lines = -(-len(keys) // columns)
    fig = Drawing(width or (TEXT if columns > 1 else COLUMN), line * lines + room)
    placed = {}
    for key, axis in zip_longest(keys, fig.subplots(lines, columns, squeeze=False, **options).flat):
        if key is None:
            axis.remove()
        else:
            axis.grid(True, axis=grid)
            placed[key] = axis
    return fig, placed


def is_left(axis: Axes) -> bool:
    """Returns whether a panel is the first of its line."""
    return axis.get_subplotspec().is_first_col()


def label(axis: Axes, x: str, y: str) -> None:
    """Labels a panel where it stands outermost: x in the last line, y as the first of a line."""
    place = axis.get_subplotspec()
    axis.set(xlabel=x if place.is_last_row() else "", ylabel=y if place.is_first_col() else "")


def check(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Returns the table with its models as texts, empty where there is none.

    Raises ValueError for a missing column, and for a table without rows.
    """
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    return table.assign(model=table["model"].fillna("").astype(str) if "model" in table else "")


def where(table: pd.DataFrame | None, **values) -> pd.DataFrame:
    """Returns the rows that have these values (column=value), none where there is no table."""
    if table is None:
        return pd.DataFrame()
    return table[np.logical_and.reduce([table[column] == value for column, value in values.items()])]


def cycle(names: Sequence, what: str) -> dict:
    """Returns the style of each name's line.

    Raises ValueError, with `what` they are, where there are more names than looks.
    """
    if len(names) > len(LINES):
        raise ValueError(f"{len(names)} {what} are too many for one figure: give at most {len(LINES)}")
    return dict(zip(names, LINES, strict=False))


def arms(mean: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Returns the lengths of N error bars (2, N), down and up; NaN where an end is not known."""
    return np.array([np.subtract(mean, low), np.subtract(high, mean)]).reshape(2, -1).clip(0)


def intervals(
    axis: Axes, x: ArrayLike, y: ArrayLike, x_ends: tuple | None = None, y_ends: tuple | None = None, **style
) -> ErrorbarContainer:
    """Draws N points with their intervals. x_ends, y_ends: low and high of each; style: of `Axes.errorbar`."""
    across = None if x_ends is None else arms(x, *x_ends)
    upright = None if y_ends is None else arms(y, *y_ends)
    return axis.errorbar(x, y, upright, across, **{"linestyle": "none", "elinewidth": 0.8} | style)


def mark(method: str) -> dict:
    """Returns the style of a method's mark."""
    style = look(method)
    outline = dict(fillstyle=style.fill, markeredgecolor=style.colour, markerfacecoloralt="white")
    return line(style.colour, style.marker, "none", **outline)


def hollow(colour: str, marker: str, size: float) -> dict:
    """Returns the style of a hollow mark, as published values have it."""
    return line(colour, marker, "none", markersize=size, markerfacecolor="none", markeredgewidth=0.8)


def handle(label: str, **style) -> Line2D:
    """Returns an entry of a legend: a line or a mark."""
    return Line2D([], [], label=label, **style)


def log_axis(axis: Axis) -> None:
    """Sets an x or y axis to a logarithmic scale with plain numbers."""
    (axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def counts(numbers: Iterable) -> str:
    """Returns numbers of documents in words, `n = 12` or `n = 12-15`."""
    found = sorted({int(n) for n in numbers} or {0})
    return "n = " + "-".join(str(n) for n in dict.fromkeys((found[0], found[-1])))


def told(rows: pd.DataFrame, pattern: str, none: str = "none") -> str:
    """Returns rows in words: the pattern filled with the columns of each, `none` where there is no row."""
    return "; ".join(pattern.format(**row) for row in rows.to_dict("records")) or none


def plain(text) -> str:
    """Returns text that matplotlib draws as it is, dollar signs too (it would read a formula between two)."""
    return str(text).replace("$", r"\$")


def say(axis: Axes, words: str, x: float | None = None, upright: bool = False) -> None:
    """Writes words in place of what cannot be drawn, in the middle of a panel or, at half its height, at x."""
    style = dict(ha="center", va="center", rotation=90 if upright else 0, color=GREY, fontsize=6.5, linespacing=1.05)
    place = axis.transAxes if x is None else axis.get_xaxis_transform()
    axis.text(0.5 if x is None else x, 0.5, words, transform=place, **style)


@dataclass(frozen=True)
class Picture(os.PathLike):
    """A saved figure: the PNG and its alternative text. A notebook shows it as an image with the text."""

    path: Path
    alt: str

    def __fspath__(self) -> str:
        return str(self.path)

    def html(self, caption: str = "") -> str:
        """Returns a `<figure>` with the image inside, for any page; the caption is plain text."""
        with Image.open(self.path) as image:
            inches = image.width / image.info.get("dpi", (200, 200))[0]
        data = base64.b64encode(self.path.read_bytes()).decode()
        # 130 pixels an inch: 8 pt letters come out nearly as large as the text around them.
        return (
            '<figure class="picture"><div class="scroll" tabindex="0" role="region" aria-label="Figure">'
            f'<img class="{"wide" if inches > 4 else "narrow"}" alt="{html.escape(self.alt)}" '
            f'width="{round(130 * inches)}" src="data:image/png;base64,{data}"></div>'
            f"{f'<figcaption>{html.escape(caption)}</figcaption>' if caption else ''}</figure>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": self.alt}


def save(fig: Drawing, name: str, folder: Path | str) -> Picture:
    """Writes `name.png` (200 dpi), `name.pdf` and `name.json` (the alternative text); the same bytes every time.

    The PNG carries the text too (entry Description). Raises ValueError for a figure without one, and for a name of
    other characters than letters, digits, `_`, `-`, `.`.
    """
    alt = " ".join(fig.alt.split())
    if not alt:
        raise ValueError(f"figure {name!r} has no alternative text: set its alt to what it shows and what one sees")
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"figure name {name!r}: use letters, digits, _, - and . only")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))  # no date and no version: same bytes again
    metadata = {"pdf": {**nothing, "Subject": alt}, "png": {"Software": None, "Description": alt}}
    with matplotlib.style.context(STYLE):
        for suffix, entries in metadata.items():
            with replacing(folder / f"{name}.{suffix}") as partial:
                fig.savefig(partial, format=suffix, metadata=entries)
    write_json(folder / f"{name}.json", {"alt": alt})
    return Picture(folder / f"{name}.png", alt)


def load(path: Path | str) -> Picture:
    """Returns a figure that `save` wrote, its alternative text read from the PNG; without one, ValueError."""
    with Image.open(path) as image:
        alt = image.info.get("Description", "")
    if not alt:
        raise ValueError(f"{path} carries no alternative text: was it written by drawing.save?")
    return Picture(Path(path), alt)
