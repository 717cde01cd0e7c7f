"""Panels of label steps: models as columns, corpora as rows, last steps left and intermediate ones right."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Patch

from mlutils.readouts import answers, steps
from mlutils.readouts.steps import GROUPS
from mlutils.reporting import drawing
from mlutils.reporting.drawing import COLUMN, TEXT, Drawing, plain, where
from mlutils.reporting.looks import BLUE, ORANGE
from mlutils.reporting.published import corpus_title

STEPS = (1, 2)  # the values of r that figures show
COLOURS = {"last": BLUE, "intermediate": ORANGE}
SHADES = {"last": "#8fc1e3", "intermediate": "#f5cf8e"}
FEW = steps.FEWEST + 1  # steps below which a shape or a share would show what is not there; Fig. 5 drops as many
TITLES = {"first": "largest", "second": "second", "next_said": "said\nnext", "second_next": "second\nr + 1"}
ABSENT = "no answer has\na step {step}"
WIDE = 2  # panels side by side where each has many places
VIOLIN = dict(split=True, inner="quart", cut=0, density_norm="width", width=0.85, gap=0.06)


def shapes(
    table: pd.DataFrame,
    quantities: Sequence[str],
    title: str,
    absent: str = ABSENT,
    plot: Callable = sns.violinplot,
    style: Mapping = VIOLIN,
    handles: Sequence = (),
) -> Drawing:
    """Returns a panel a model and corpus with quantities at r = 1, 2 as shapes, last steps left, intermediate right.

    table: model, corpus, step, last, answer and the quantities, one row a label step; below the numbers of steps stand
    those of different answers among them, in brackets. title: of the vertical axis, from 0 to 1.
    absent: words in place of a step that there is none of, with `{step}`. plot, style: seaborn's function and its
    options; it draws groups of more than ten steps, others are dots. handles: more entries of the legend. Raises
    ValueError as `drawing.check` does.
    """
    table = drawing.check(table, "model", "corpus", "step", "last", "answer", *quantities)
    places = list(product(STEPS, quantities))
    upright = len(places) * table["model"].nunique() > 2  # words stand upright where there is little room
    shades = dict(hue="group", hue_order=GROUPS, palette=SHADES, saturation=1, linewidth=0.6, legend=False)

    def draw(axis, rows):
        parts = []
        for place, (step, quantity) in enumerate(places):
            kept = steps.select(rows[rows["step"] == step], quantity)
            group, values = np.where(kept["last"], *GROUPS), kept[quantity].to_numpy(float)
            parts.append(pd.DataFrame({"place": place, "group": group, "value": values, "answer": kept["answer"]}))
        frame = pd.concat(parts, ignore_index=True)
        many = frame.groupby(["place", "group"])["value"].transform("size") >= FEW
        if many.any():
            order = dict(order=range(len(places)), dodge=True)
            plot(frame[many], x="place", y="value", ax=axis, **order, **shades, **style)
        for (place, group), values in frame[~many].groupby(["place", "group"])["value"]:
            beside = np.linspace(0.06, 0.06 + 0.03 * (len(values) - 1), len(values))  # equal values stay apart
            x = place + (-beside if group == "last" else beside)
            axis.plot(x, values, marker="o" if group == "last" else "^", color=COLOURS[group], ms=2.5, ls="none")
        numbers = pd.crosstab(frame["place"], frame["group"]).reindex(range(len(places)), columns=GROUPS, fill_value=0)
        told = frame.groupby(["place", "group"])["answer"].agg(answers.count_different)
        ticks = []
        for (step, quantity), (place, last, intermediate) in zip(places, numbers.itertuples(), strict=True):
            name = TITLES[quantity] + "\n" if len(quantities) > 1 else ""
            if quantity in ("next_said", "second_next"):
                ticks.append(f"{name}{intermediate:,}\n({told.get((place, 'intermediate'), 0):.1f})")
                drawing.say(axis, "" if intermediate else "no step", place, upright)
                continue
            both = " / ".join(f"{told.get((place, group), 0):.1f}" for group in GROUPS)
            ticks.append(f"{name}r = {step}\n{last:,} / {intermediate:,}\n({both})")
            if not last and not intermediate:
                drawing.say(axis, absent.format(step=step), place, upright)
            elif not last:
                drawing.say(axis, "no last\nstep", place - 0.25, upright)
            elif not intermediate:
                drawing.say(axis, "no intermediate\nstep", place + 0.25, upright)
        axis.set_xticks(range(len(places)), ticks, fontsize=6.5)
        axis.set(xlim=(-0.55, len(places) - 0.45), ylim=(-0.03, 1.03))

    across = {2: 5, 4: 4}.get(len(places), WIDE)
    height = 2.25 if across == WIDE else 1.7
    below = "steps (different answers): last / intermediate"
    fig = grid(table, draw, title, below, height, across)
    groups = [
        Patch(facecolor=SHADES[group], edgecolor=COLOURS[group], label=f"{side}: {group} step")
        for side, group in zip(("left", "right"), GROUPS, strict=True)
    ]
    fig.legend_below([*groups, *handles], 2)
    return fig


def grid(table: pd.DataFrame, draw: Callable, ylabel: str, xlabel: str, height: float, across: int) -> Drawing:
    """Returns a panel a model and corpus: models side by side, `across` at most, corpora below each other.

    draw(axis, rows) fills a panel with the rows of a model and corpus; one without rows says so. height: of a panel, in
    inches. Each panel has its model and corpus as `shown`.
    """
    models, corpora = (table[column].unique().tolist() for column in ("model", "corpus"))
    columns = min(len(models), across)
    gaps = -len(models) % columns  # of the last line of a corpus
    keys = [key for corpus in corpora for key in [*product(models, [corpus]), *[None] * gaps]]
    width = TEXT if across == WIDE or len(models) > 1 else COLUMN
    fig, axes = drawing.panels(keys, columns, height, 0.55, width)
    for (model, corpus), axis in axes.items():
        axis.shown = (model, corpus)
        rows = where(table, model=model, corpus=corpus)
        if len(rows):
            draw(axis, rows)
        else:
            axis.set_xticks([])
            drawing.say(axis, "no label step")
        axis.set(xlabel="", ylabel=ylabel if drawing.is_left(axis) else "")
        named = len(models) > 1 and (len(models) > columns or axis.get_subplotspec().is_first_row())
        head = textwrap.fill(model, int(14 * width / columns)) + "\n" if named else ""
        axis.set_title(plain(head + corpus_title(corpus)), loc="left", fontweight="bold")
    last = columns - gaps  # panels of the last line: one label, narrow ones have no room for each
    list(axes.values())[-last + (last - 1) // 2].set_xlabel(xlabel, x=0.5 if last % 2 else 1.1)
    return fig


def describe(table: pd.DataFrame, quantities: Sequence[str], statistic: str = "mean") -> str:
    """Returns a statistic (mean, median) of the steps that figures show, in words: model, corpus, r, group, n."""
    told = []
    for (model, corpus), rows in table.groupby(["model", "corpus"], sort=False):
        for step, group, quantity in product(STEPS, GROUPS, quantities):
            kept = steps.select(where(rows, step=step, last=group == "last"), quantity)[quantity]
            named = f", {quantity}" if len(quantities) > 1 else ""
            if len(kept):
                value = kept.astype(float).agg(statistic)
                told.append(f"{model}, {corpus}, r = {step}, {group}{named}: {value:.2f} (n = {len(kept)})")
    return "; ".join(told)
