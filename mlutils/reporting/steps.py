"""Fig. 2, 3, 5, 9, 10, 11, 16: step distributions, models as columns, corpora as rows; and what is odd about the
steps that they are drawn from.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from mlutils.readouts import steps
from mlutils.readouts.steps import GROUPS
from mlutils.reporting import multiples
from mlutils.reporting.figures import COLUMN
from mlutils.reporting.looks import BLACK, BLUE, BROWN, GREEN, GREY, ORANGE, PINK, RED, SKY
from mlutils.reporting.multiples import FEW, SHADES
from mlutils.reporting.pictures import plain
from mlutils.reporting.published import SECOND_RANK, corpus_title

STEPS = (1, 2)
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


def write_never_said(table: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 4 to read: percent with its interval, or words where ten steps or fewer say nothing.

    table: `steps.never_said` with source (ours, published) and published_not_next, the range that the paper prints.
    """

    def write(value, low, high, n):
        if not np.isnan(n) and n < FEW:
            return f"too few (n = {n:.0f})"
        return f"{value:.1f}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]") if not np.isnan(value) else ""

    columns = {
        "never said later, %": ("value", "low", "high", "n"),
        "not said next, %": ("not_next", "not_next_low", "not_next_high", "intermediate"),
    }
    told = {name: [write(*row) for row in table[list(parts)].to_numpy(float)] for name, parts in columns.items()}
    published = table["published_not_next"].fillna("")
    return table[["source", "model", "corpus"]].assign(**told, **{"not said next, published": published})


def largest(table: pd.DataFrame) -> Figure:
    """Returns Fig. 2: the largest step probability at r = 1, 2, last against intermediate steps as split violins.

    table: model, corpus, step, last, first, one row a label step (`steps.gather`). Under each pair stand the numbers of
    steps; ten or fewer are dots; a group without a step is named in words. Raises ValueError for no rows.
    """
    return multiples.violins(table, [("first", step) for step in STEPS], "largest probability", 1.0)


def by_head(table: pd.DataFrame) -> Figure:
    """Returns Fig. 16: Fig. 2 for each decoding head, heads as columns, corpora (and models, where several) as rows.

    table: as `largest`, with head (`medusa.gather`). Raises ValueError for no rows.
    """
    multiples.check(table, "head")
    named = table["corpus"].map(corpus_title)
    if table["model"].nunique() > 1:
        named += ", " + table["model"]
    words = "no step {step}\nthat this head reads"
    table = table.assign(model="head " + table["head"].astype(str), corpus=named)
    return multiples.violins(table, [("first", step) for step in STEPS], "largest probability", 1.0, words)


def second(table: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Returns Fig. 3: the second-highest probability at r = 1, 2, and at intermediate steps the probability at r of the
    label said next (where it is not the largest at r) and that at r + 1 of the label that was second at r.

    table: as `largest`, with second, next_said, second_next, next_label, top1. shares: `steps.summarise`, for the share
    of steps at which the second label is said next, written at the top. Raises ValueError for no rows.
    """
    places = [(quantity, step) for step in STEPS for quantity in ("second", "next_said", "second_next")]
    fig = multiples.violins(table, places, "step probability", 1.0)
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
    fig = multiples.violins(table, [("entropy", step) for step in STEPS], "entropy, bits", None)
    for axis in fig.axes:
        top = np.log2(labels[axis.shown[1]] + 1)
        axis.axhline(top, color=GREY, linestyle="--", linewidth=0.7)
        axis.set_ylim(-0.05 * top, 1.08 * top)
        axis.yaxis.set_major_locator(MultipleLocator(1 if top < 5 else 2))
    fig.legends[0].remove()
    uniform = Line2D([], [], color=GREY, linestyle="--", linewidth=0.7, label="all labels and none equal")
    fig.legend(handles=[*multiples.group_handles(), uniform], loc="outside lower center", ncols=2)
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

    return multiples.shapes(table, places, "step probability", 1.0, multiples.ABSENT, draw)


def accuracies(table: pd.DataFrame) -> Figure:
    """Returns Fig. 5: accuracy of the first and of the second label said, colour and marker a corpus, dash a model.

    table: `steps.accuracy`; rows of documents with two or more gold labels are drawn, points of ten documents or fewer
    are dropped and named. Raises ValueError for no rows.
    """
    table = multiples.check(table, "gold", "label", "mean", "low", "high", "n", "shown")
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
        multiples.say(axis, 0.5, "no model has enough answers with two or more labels")
    if dropped:
        words = f"Dropped, answers with two or more labels: {', '.join(dropped)}."
        axis.set_xlabel(textwrap.fill(words, 54), fontsize=7, color=GREY)
    return fig


def second_ranks(table: pd.DataFrame) -> Figure:
    """Returns Fig. 11, reading A: the rank that the labels said second and third had at the first step.

    table: `steps.ranks`. Hollow marks at rank 2 are the paper's shares of second labels. Shares of ten answers or fewer
    are not drawn: words say how many there are. Ranks behind the eighth are joined into the last bar.
    """
    table = multiples.check(table, "reading", "label", "place", "mean", "low", "high", "n")

    def draw(axis, rows):
        rows = rows[rows["reading"] == "A"]
        axis.set_ylim(0, 1.05)
        if rows.empty:
            axis.set_xticks([])
            multiples.say(axis, 0.5, "no answer with two or more labels")
            return
        asked = rows.groupby("label")["n"].max()  # answers with a second, and with a third label
        if asked.max() < FEW:
            axis.set_xticks([])
            multiples.say(axis, 0.5, f"too few answers with two or more labels (n = {asked.max():.0f})")
            return
        counts = [f"{n:,.0f}" if n >= FEW else f"{n:,.0f} (too few)" for n in asked]
        box = dict(facecolor="white", edgecolor="none", pad=1)
        axis.text(8.9, 0.9, f"n = {' / '.join(counts)}", ha="right", va="center", size=7, bbox=box)
        hatches = {2: "", 3: "////"}
        for label, side in ((2, -0.2), (3, 0.2)):
            found = rows[(rows["label"] == label) & (rows["n"] >= FEW) & (rows["mean"] > 0)]
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

    fig = multiples.grid(table, draw, "share of answers", "rank at the first step", 1.5, "no label step", 3)
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
