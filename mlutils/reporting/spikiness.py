"""Fig. 2, 3, 5, 9, 10, 11: step distributions as small multiples, models as columns, corpora as rows; and what is odd
about the steps that they are drawn from.
"""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from mlutils.readouts import steps
from mlutils.readouts.steps import GROUPS
from mlutils.reporting.figures import COLUMN, TEXT
from mlutils.reporting.looks import BLACK, BLUE, BROWN, GREEN, GREY, ORANGE, PINK, RED, SKY
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import SECOND_RANK, corpus_title

COLOURS = {"last": BLUE, "intermediate": ORANGE}
SHADES = {"last": "#8fc1e3", "intermediate": "#f5cf8e"}
STEPS = (1, 2)
FEW = 6  # steps below which a violin or a box would show a shape that is not there: dots in their place
TITLES = {"first": "largest", "second": "second", "next_said": "said\nnext", "second_next": "second\nr + 1"}
UNENDED = ("cut off", "unknown label")  # statuses of answers that may go on behind their last known label
RANKS = 8  # that Fig. 11 shows at most
CORPUS_MARKS = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (PINK, "D"), (BROWN, "v"), (SKY, "P"))
MODEL_DASHES = ("-", "--", ":", "-.")


def count(table: pd.DataFrame, traces: Sequence, variant: str = "list") -> pd.DataFrame:
    """Returns what a reader must know before the figures, a row a trace: documents, label steps, answers with two or
    more distinct labels, how often the most frequent answer is given, the mean mass of the labels in the full softmax,
    and how many steps are odd in one way or another (section 4).
    """
    rows = []
    for name, trace in zip(steps.name_models(traces), traces, strict=True):
        found = table[(table["model"] == name) & (table["corpus"] == trace.settings["corpus"])]
        asked = len(trace.documents) - trace.failures.query("view == 'list'")["document"].nunique()
        texts = trace.answers[trace.answers["variant"] == variant]["text"].str.strip()
        odd = {
            "answers with two or more labels": found["distinct"][found["step"] == 1] >= 2,
            "last": found["last"],
            "intermediate": ~found["last"],
            "mass of the labels below 0.5": found["mass"] < 0.5,
            "label said before": found["repeated"],
            "label said is not the most probable": ~found["said_is_top1"],
            "second label tied": found["tied"],
            "second label said before": found["second_before"],
            "second label is none": found["second_label"] == steps.NONE,
            "last, but cut off or with an unknown label": found["last"] & found["status"].isin(UNENDED),
        }
        row = {"model": name, "corpus": trace.settings["corpus"], "documents": asked}
        row |= {"without a label step": asked - found["document"].nunique(), "label steps": len(found)}
        row |= {"most frequent answer": texts.value_counts().max(), "mean mass of the labels": found["mass"].mean()}
        rows.append(row | {kind: int(where.sum()) for kind, where in odd.items()})
    return pd.DataFrame(rows)


def largest(table: pd.DataFrame) -> Figure:
    """Returns Fig. 2: the largest step probability at r = 1, 2, last against intermediate steps as split violins.

    table: model, corpus, step, last, first, one row a label step (`steps.gather`). Under each pair stand the numbers of
    steps; fewer than six are dots; a group without a step is named in words. Raises ValueError for no rows.
    """
    return _violins(table, [("first", step) for step in STEPS], "largest probability", 1.0)


def second(table: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Returns Fig. 3: the second-highest probability at r = 1, 2, and at intermediate steps the probability at r of the
    label said next (where it is not the largest at r) and that at r + 1 of the label that was second at r.

    table: as `largest`, with second, next_said, second_next, next_label, top1. shares: `steps.summarise`, for the share
    of steps at which the second label is said next, written at the top. Raises ValueError for no rows.
    """
    places = [(quantity, step) for step in STEPS for quantity in ("second", "next_said", "second_next")]
    fig = _violins(table, places, "step probability", 1.0)
    shares = shares[shares["quantity"] == "second_is_next"].set_index(["model", "corpus", "step"])
    for axis in fig.axes:
        for at, step in zip((1, 4), STEPS, strict=True):
            row = shares.loc[(*axis.shown, step)] if (*axis.shown, step) in shares.index else {"n": 0}
            if row["n"]:
                spread = f"{100 * row['mean']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
                few = f"{row['n'] * row['mean']:.0f} of {row['n']:.0f}"
                text = f"second said next:\n{spread if row['n'] >= FEW else few}"
                axis.text(at, 1.04, text, ha="center", va="bottom", fontsize=6.5)
        axis.set_ylim(-0.03, 1.34)
        axis.set_yticks(np.linspace(0, 1, 5))
        axis.axvline(2.5, color="0.8", linewidth=0.5)
    return fig


def entropies(table: pd.DataFrame, labels: dict[str, int]) -> Figure:
    """Returns Fig. 10: the entropy of the step distributions in bits, drawn as Fig. 2.

    table: as `largest`, with entropy. labels: the number of labels of each corpus; the dashed line is the entropy of
    a step that knows nothing, log2(labels + 1). Raises ValueError for no rows.
    """
    fig = _violins(table, [("entropy", step) for step in STEPS], "entropy, bits", None)
    for axis in fig.axes:
        top = np.log2(labels[axis.shown[1]] + 1)
        axis.axhline(top, color=GREY, linestyle="--", linewidth=0.7)
        axis.set_ylim(-0.05 * top, 1.08 * top)
        axis.yaxis.set_major_locator(MultipleLocator(1 if top < 5 else 2))
    fig.legends[0].remove()
    uniform = Line2D([], [], color=GREY, linestyle="--", linewidth=0.7, label="all labels and none equal")
    fig.legend(handles=[*_group_handles(), uniform], loc="outside lower center", ncols=2)
    return fig


def boxes(table: pd.DataFrame) -> Figure:
    """Returns Fig. 9: the largest and the second step probability at r = 1, 2 as box plots (whiskers: 1.5 times the
    range between the quartiles), last against intermediate steps.

    table: as `second`. Raises ValueError for no rows.
    """
    places = [(quantity, step) for step in STEPS for quantity in ("first", "second")]

    def draw(axis, frame):
        style = dict(fliersize=1, linewidth=0.6, width=0.7, gap=0.12, dodge=True, saturation=1, legend=False)
        order = dict(order=range(len(places)), hue="group", hue_order=GROUPS, palette=SHADES)
        sns.boxplot(frame, x="place", y="value", ax=axis, **order, **style)

    return _multiples(table, places, "step probability", 1.0, draw)


def accuracies(table: pd.DataFrame) -> Figure:
    """Returns Fig. 5: accuracy of the first and of the second label said, colour and marker a corpus, dash a model.

    table: `steps.accuracy`; rows of documents with two or more gold labels are drawn, points of ten documents or fewer
    are dropped and named. Raises ValueError for no rows.
    """
    table = _checked(table, "gold", "label", "mean", "low", "high", "n", "shown")
    table = table[table["gold"] == "two or more"]
    corpora, models = (list(dict.fromkeys(table[column])) for column in ("corpus", "model"))
    lines = list(table.groupby(["model", "corpus"], sort=False))
    fig = Figure(figsize=(COLUMN, 2.2 + 0.13 * len(lines)), layout="constrained")
    axis, dropped, kept = fig.subplots(), [], 0
    for number, ((model, corpus), rows) in enumerate(lines):
        name = plain(corpus_title(corpus) + (f", {model}" if len(models) > 1 else ""))
        if not rows["shown"].all():
            dropped.append(f"{name} ({rows['n'].iloc[0]})")
            continue
        colour, marker = CORPUS_MARKS[corpora.index(corpus) % len(CORPUS_MARKS)]
        dash = MODEL_DASHES[models.index(model) % len(MODEL_DASHES)]
        rows = rows.set_index("label").loc[["first", "second"]]
        arms = np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).clip(0)
        x = np.arange(2) + 0.05 * (number - (len(lines) - 1) / 2)
        label = f"{name}, n = {rows['n'].iloc[0]}"
        axis.errorbar(x, rows["mean"], arms, color=colour, marker=marker, linestyle=dash, elinewidth=0.8, label=label)
        kept += 1
    axis.set_xticks([0, 1], ["first label said", "second label said"])
    axis.set_xlim(-0.4, 1.4)
    axis.set_ylim(0, 1)
    axis.set_ylabel("accuracy (in the gold set)")
    axis.grid(True, axis="y")
    if kept:
        fig.legend(loc="outside lower center", ncols=1)
    if not kept:
        _say(axis, 0.5, "no model has enough answers with two or more labels")
    if dropped:
        words = f"Dropped, answers with two or more labels: {', '.join(dropped)}."
        axis.set_xlabel(textwrap.fill(words, 62), fontsize=7, color=GREY)
    return fig


def second_ranks(table: pd.DataFrame) -> Figure:
    """Returns Fig. 11, reading A: the rank that the labels said second and third had at the first step.

    table: `steps.ranks`. Hollow marks at rank 2 are the paper's shares of second labels. A model without an answer of
    two or more labels is said so in words. Ranks behind the eighth are joined into the last bar.
    """
    table = _checked(table, "reading", "label", "place", "mean", "low", "high", "n")

    def draw(axis, rows):
        rows = rows[rows["reading"] == "A"]
        axis.set_ylim(0, 1.05)
        if rows.empty:
            axis.set_xticks([])
            _say(axis, 0.5, "no answer with two or more labels")
            return
        counts = [f"{n:,.0f}" for label in (2, 3) for n in rows.loc[rows["label"] == label, "n"].head(1)]
        box = dict(facecolor="white", edgecolor="none", pad=1)
        axis.text(8.9, 0.9, f"n = {' / '.join(counts)}", ha="right", va="center", size=7, bbox=box)
        hatches = {2: "", 3: "////"}
        for label, side in ((2, -0.2), (3, 0.2)):
            found = rows[rows["label"] == label]
            colour = (BLUE, "#8fc1e3") if label == 2 else (ORANGE, "#f5cf8e")
            near = found[found["place"] <= RANKS]
            bars = dict(width=0.38, color=colour[1], edgecolor=colour[0], linewidth=0.6, hatch=hatches[label])
            axis.bar(near["place"] + side, near["mean"], **bars)
            arms = np.array([near["mean"] - near["low"], near["high"] - near["mean"]]).clip(0)
            axis.errorbar(near["place"] + side, near["mean"], arms, fmt="none", ecolor=BLACK, elinewidth=0.7)
            if far := found.loc[found["place"] > RANKS, "mean"].sum():
                axis.bar(RANKS + 1 + side, far, **bars)
        for size, marker in (("8B", "o"), ("70B", "s")):
            axis.plot(1.8, SECOND_RANK[size], marker=marker, markerfacecolor="none", color=RED, linestyle="none")
        axis.set_xticks(range(1, RANKS + 2), [*map(str, range(1, RANKS + 1)), "on"])
        axis.set_xlim(0.4, RANKS + 1.6)

    fig = _grid(table, draw, "share of answers", "rank at the first step", 1.5, "no label step")
    handles = [
        Patch(facecolor="#8fc1e3", edgecolor=BLUE, label="label said second"),
        Patch(facecolor="#f5cf8e", edgecolor=ORANGE, hatch="////", label="label said third"),
    ]
    marks = dict(color=RED, markerfacecolor="none", linestyle="none")
    handles += [
        Line2D([], [], marker="o", label="published, second, 8B", **marks),
        Line2D([], [], marker="s", label="published, second, 70B", **marks),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def _violins(table, places, title, top):
    def draw(axis, frame):
        style = dict(
            split=True, inner="quart", cut=0, density_norm="width", width=0.85, linewidth=0.6, gap=0.06, dodge=True
        )
        order = dict(order=range(len(places)), hue="group", hue_order=GROUPS, palette=SHADES)
        sns.violinplot(frame, x="place", y="value", ax=axis, saturation=1, legend=False, **order, **style)

    return _multiples(table, places, title, top, draw)


def _multiples(table, places, title, top, draw_shapes: Callable[[Axes, pd.DataFrame], None]) -> Figure:
    """Returns a panel a model and corpus with the places (quantity, r) side by side, last left, intermediate right."""
    table = _checked(table, "step", "last", *(quantity for quantity, _ in places))
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
            x = np.full(len(values), place + (-0.12 if group == "last" else 0.12))
            axis.plot(x, values, marker="o" if group == "last" else "^", color=COLOURS[group], ms=2.5, ls="none")
        ticks = []
        for place, (quantity, step) in enumerate(places):
            n = {group: int(numbers.get((place, group), 0)) for group in GROUPS}
            if quantity in ("next_said", "second_next"):
                ticks.append(f"{TITLES[quantity]}\n{n['intermediate']:,}")
                _say(axis, place, "" if n["intermediate"] else "no step", upright)
            else:
                name = TITLES[quantity] + "\n" if len(places) > len(STEPS) else ""
                ticks.append(f"{name}r = {step}\n{n['last']:,} / {n['intermediate']:,}")
                if not sum(n.values()):
                    _say(axis, place, f"no answer has\na step {step}", upright)
                else:
                    _say(axis, place - 0.25, "" if n["last"] else "no last\nstep", upright)
                    _say(axis, place + 0.25, "" if n["intermediate"] else "no intermediate\nstep", upright)
        axis.set_xticks(range(len(places)), ticks, fontsize=6.5)
        axis.set_xlim(-0.55, len(places) - 0.45)
        if top:
            axis.set_ylim(-0.03, 1.03 * top)

    wide = len(places) > 4
    fig = _grid(
        table, draw, title, "number of steps: last / intermediate", 2.1 if wide else 1.55, "no label step", wide
    )
    fig.legend(handles=_group_handles(), loc="outside lower center", ncols=2)
    return fig


WORDS = dict(color=GREY, fontsize=6.5)


def _values(rows, place, quantity, step):
    """Returns place, group, value of the steps at r for which a quantity is defined."""
    kept = steps.select(rows[rows["step"] == step], quantity)
    group = np.where(kept["last"], *GROUPS)
    return pd.DataFrame({"place": place, "group": group, "value": kept[quantity].to_numpy(float)})


def _say(axis, x, words, upright=False):
    style = dict(ha="center", va="center", rotation=90 if upright else 0, **WORDS)
    axis.text(x, 0.5, words, transform=axis.get_xaxis_transform(), **style)


def _grid(table, draw, ylabel, xlabel, height, empty, wide=False):
    models, corpora = (list(dict.fromkeys(table[column])) for column in ("model", "corpus"))
    width = TEXT if wide or len(models) > 1 else COLUMN
    fig = Figure(figsize=(width, height * len(corpora) + 0.55), layout="constrained")
    axes = fig.subplots(len(corpora), len(models), squeeze=False)
    for i, corpus in enumerate(corpora):
        for j, model in enumerate(models):
            axis, rows = axes[i, j], table[(table["model"] == model) & (table["corpus"] == corpus)]
            axis.shown = (model, corpus)
            if len(rows):
                draw(axis, rows)
            else:
                axis.set_xticks([])
                axis.text(0.5, 0.5, empty, transform=axis.transAxes, ha="center", va="center", **WORDS)
            axis.grid(True, axis="y")
            axis.set_xlabel(xlabel if i == len(corpora) - 1 else "")
            axis.set_ylabel(ylabel if j == 0 else "")
            head = textwrap.fill(model, 30) + "\n" if len(models) > 1 and i == 0 else ""
            axis.set_title(plain(head + corpus_title(corpus)), loc="left", fontweight="bold")
    return fig


def _group_handles():
    return [
        Patch(facecolor=SHADES[group], edgecolor=COLOURS[group], label=f"{side}: {group} step")
        for group, side in zip(GROUPS, ("left", "right"), strict=True)
    ]


def _checked(table, *columns):
    missing = [column for column in ("model", "corpus", *columns) if column not in table]
    if missing:
        raise ValueError(f"table lacks the columns {missing}; it has {list(table)}")
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    use_style()
    return table
