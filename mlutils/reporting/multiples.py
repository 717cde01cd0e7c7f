"""Small multiples of label steps: models as columns, corpora as rows, last steps left and intermediate ones right."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mlutils.readouts import steps
from mlutils.readouts.steps import GROUPS
from mlutils.reporting.figures import COLUMN, TEXT
from mlutils.reporting.looks import BLUE, GREY, ORANGE
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title

COLOURS = {"last": BLUE, "intermediate": ORANGE}
SHADES = {"last": "#8fc1e3", "intermediate": "#f5cf8e"}
FEW = steps.FEWEST + 1  # steps below which a shape or a share would show what is not there; Fig. 5 drops as many
TITLES = {"first": "largest", "second": "second", "next_said": "said\nnext", "second_next": "second\nr + 1"}
ABSENT = "no answer has\na step {step}"
WIDE = 2  # panels side by side where each has many places
WORDS = dict(color=GREY, fontsize=6.5, linespacing=1.05)


def violins(
    table: pd.DataFrame, places: Sequence[tuple], title: str, top: float | None, absent: str = ABSENT
) -> Figure:
    """Returns split violins in the panels of `shapes`; arguments as there."""

    def draw(axis, frame):
        style = dict(
            split=True, inner="quart", cut=0, density_norm="width", width=0.85, linewidth=0.6, gap=0.06, dodge=True
        )
        order = dict(order=range(len(places)), hue="group", hue_order=GROUPS, palette=SHADES)
        sns.violinplot(frame, x="place", y="value", ax=axis, saturation=1, legend=False, **order, **style)

    return shapes(table, places, title, top, absent, draw)


def shapes(
    table: pd.DataFrame, places: Sequence[tuple], title: str, top: float | None, absent: str, draw_shapes
) -> Figure:
    """Returns a panel a model and corpus with the places (quantity, r) side by side, last left, intermediate right.

    table: model, corpus, step, last and the quantities, one row a label step. title: of the vertical axis, which ends
    at `top`. absent: words in place of a step that there is none of, with `{step}`. draw_shapes(axis, frame) draws
    groups of more than ten steps (place, group, value); others are dots. Raises ValueError as `check` does.
    """
    table = check(table, "step", "last", *(quantity for quantity, _ in places))
    upright = len(places) * table["model"].nunique() > 2  # words stand upright where there is little room

    def draw(axis, rows):
        parts = [_values(rows, place, *where) for place, where in enumerate(places)]
        frame = pd.concat(parts, ignore_index=True)
        numbers = frame.groupby(["place", "group"]).size()
        many = numbers[numbers >= FEW].index
        keys = pd.MultiIndex.from_frame(frame[["place", "group"]])
        if len(many):
            draw_shapes(axis, frame[keys.isin(many)])
        for (place, group), values in frame[~keys.isin(many)].groupby(["place", "group"])["value"]:
            beside = np.linspace(0.06, 0.06 + 0.03 * (len(values) - 1), len(values))  # equal values stay apart
            x = place + (-beside if group == "last" else beside)
            axis.plot(x, values, marker="o" if group == "last" else "^", color=COLOURS[group], ms=2.5, ls="none")
        ticks = []
        for place, (quantity, step) in enumerate(places):
            n = {group: int(numbers.get((place, group), 0)) for group in GROUPS}
            if quantity in ("next_said", "second_next"):
                ticks.append(f"{TITLES[quantity]}\n{n['intermediate']:,}")
                say(axis, place, "" if n["intermediate"] else "no step", upright)
            else:
                name = TITLES[quantity] + "\n" if len(places) > 2 else ""
                ticks.append(f"{name}r = {step}\n{n['last']:,} / {n['intermediate']:,}")
                if not sum(n.values()):
                    say(axis, place, absent.format(step=step), upright)
                else:
                    say(axis, place - 0.25, "" if n["last"] else "no last\nstep", upright)
                    say(axis, place + 0.25, "" if n["intermediate"] else "no intermediate\nstep", upright)
        axis.set_xticks(range(len(places)), ticks, fontsize=6.5)
        axis.set_xlim(-0.55, len(places) - 0.45)
        if top:
            axis.set_ylim(-0.03, 1.03 * top)

    across = {2: 5, 4: 4}.get(len(places), WIDE)
    height = 2.1 if across == WIDE else 1.55
    fig = grid(table, draw, title, "number of steps: last / intermediate", height, "no label step", across)
    fig.legend(handles=group_handles(), loc="outside lower center", ncols=2)
    return fig


def _values(rows, place, quantity, step):
    """Returns place, group, value of the steps at r for which a quantity is defined."""
    kept = steps.select(rows[rows["step"] == step], quantity)
    group = np.where(kept["last"], *GROUPS)
    return pd.DataFrame({"place": place, "group": group, "value": kept[quantity].to_numpy(float)})


def say(axis: Axes, x: float, words: str, upright: bool = False) -> None:
    """Writes words in place of what cannot be drawn."""
    style = dict(ha="center", va="center", rotation=90 if upright else 0, **WORDS)
    axis.text(x, 0.5, words, transform=axis.get_xaxis_transform(), **style)


def grid(table: pd.DataFrame, draw, ylabel: str, xlabel: str, height: float, empty: str, across: int) -> Figure:
    """Returns a panel a model and corpus: models side by side, `across` at most, corpora below each other.

    draw(axis, rows) fills a panel with the rows of a model and corpus; one without rows says `empty`. height: of a
    panel, in inches.
    """
    models, corpora = (list(dict.fromkeys(table[column])) for column in ("model", "corpus"))
    columns = min(len(models), across)
    lines = -(-len(models) // columns)  # of a corpus
    width = TEXT if across == WIDE or len(models) > 1 else COLUMN
    fig = Figure(figsize=(width, height * lines * len(corpora) + 0.55), layout="constrained")
    axes = fig.subplots(lines * len(corpora), columns, squeeze=False)
    for place, axis in enumerate(axes.ravel()):
        row, column = divmod(place, columns)
        corpus, number = corpora[row // lines], row % lines * columns + column
        if number >= len(models):
            axis.remove()
            continue
        model = models[number]
        rows = table[(table["model"] == model) & (table["corpus"] == corpus)]
        axis.shown = (model, corpus)
        if len(rows):
            draw(axis, rows)
        else:
            axis.set_xticks([])
            axis.text(0.5, 0.5, empty, transform=axis.transAxes, ha="center", va="center", **WORDS)
        axis.grid(True, axis="y")
        axis.set_xlabel("")
        axis.set_ylabel(ylabel if column == 0 else "")
        named = len(models) > 1 and (row == 0 or lines > 1)
        head = textwrap.fill(model, int(14 * width / columns)) + "\n" if named else ""
        axis.set_title(plain(head + corpus_title(corpus)), loc="left", fontweight="bold")
    last = len(models) - (lines - 1) * columns  # panels of the last line: one label, narrow ones have no room for each
    axes[-1, (last - 1) // 2].set_xlabel(xlabel, x=0.5 if last % 2 else 1.1)
    return fig


def group_handles() -> list[Patch]:
    """Returns the legend of last and intermediate steps."""
    return [
        Patch(facecolor=SHADES[group], edgecolor=COLOURS[group], label=f"{side}: {group} step")
        for group, side in zip(GROUPS, ("left", "right"), strict=True)
    ]


def check(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Returns the table, and takes the style into use. Raises ValueError for no rows or a missing column."""
    missing = [column for column in ("model", "corpus", *columns) if column not in table]
    if missing:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    use_style()
    return table
