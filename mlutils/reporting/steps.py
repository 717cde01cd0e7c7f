"""Fig. 2, 3, 4, 5, 9, 10, 11 and Table 4: step distributions, and what is odd about the steps they are drawn from."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from mlutils.readouts import answers, steps
from mlutils.reporting import drawing, panels
from mlutils.reporting.drawing import LINES, Drawing, handle, line, plain, told, where
from mlutils.reporting.looks import BLACK, BLUE, GREY, ORANGE, RED
from mlutils.reporting.panels import FEW, STEPS
from mlutils.reporting.published import SECOND_RANK, corpus_title
from mlutils.reporting.tables import interval, write_count

UNENDED = ("cut off", "unknown label")  # statuses of answers that may go on behind their last known label
RANKS = 8  # that Fig. 11 shows at most
LONGEST = 12  # ranks that Fig. 4 shows at most: behind them lies nearly nothing
DASHES = ("-", "--", ":", "-.")  # of models in Fig. 5
BOX = dict(fliersize=1, width=0.7, gap=0.12)
BARS = {  # of Fig. 11: the style of labels said second and third, and where they stand beside their rank
    2: (-0.2, dict(label="label said second", facecolor="#8fc1e3", edgecolor=BLUE)),
    3: (0.2, dict(label="label said third", facecolor="#f5cf8e", edgecolor=ORANGE, hatch="////")),
}
PUBLISHED = {
    "8B": line(RED, "o", "none", markerfacecolor="none"),
    "70B": line(RED, "s", "none", markerfacecolor="none"),
}


def count(table: pd.DataFrame, traces: Sequence) -> pd.DataFrame:
    """Returns what a reader must know before the figures, a row a trace.

    Documents, label steps, answers with two or more distinct labels, how often the most frequent answer is given, how
    many different answers that comes to, the mean mass of the labels in the full softmax, and how many steps are odd in
    one way or another. A label said before is a label step only where the table was gathered with `repeats` kept.
    """
    rows = []
    for name, trace in zip(steps.name_models(traces), traces, strict=True):
        found = table[(table["model"] == name) & (table["corpus"] == trace.settings["corpus"])]
        asked = len(trace.documents) - trace.failures.query("view == 'list'")["document"].nunique()
        texts = trace.answers.query("variant == 'list'")["text"].str.strip()
        again = (trace.steps["variant"] == "list").sum() - len(found)  # left out of the table
        row = {
            "model": name,
            "corpus": trace.settings["corpus"],
            "documents": asked,
            "without a label step": asked - found["document"].nunique(),
            "label steps": len(found),
            "most frequent answer": texts.value_counts().max(),
            "different answers, effective": answers.count_different(answers.read_lists(trace)),
            "mean mass of the labels": found["mass"].mean(),
            "answers with two or more labels": (found["distinct"][found["step"] == 1] >= 2).sum(),
            "last": found["last"].sum(),
            "intermediate": (~found["last"]).sum(),
            "mass of the labels below 0.5": (found["mass"] < 0.5).sum(),
            "label said before": found["repeated"].sum() + again,
            "label said is not the most probable": (~found["said_is_top1"]).sum(),
            "second label tied": found["tied"].sum(),
            "second label said before": found["second_before"].sum(),
            "second label is none": (found["second_label"] == steps.NONE).sum(),
            "last, but cut off or with an unknown label": (found["last"] & found["status"].isin(UNENDED)).sum(),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def write_never_said(table: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 4 to read: percent with its interval, or words where ten steps or fewer say nothing, and how many
    steps (and different answers) are behind it.

    table: `steps.never_said` with source (ours, published) and published_not_next, the range that the paper prints.
    """

    def write(value, low, high, n, _):
        if n < FEW:
            return f"too few (n = {n:.0f})"
        return "" if np.isnan(value) else interval(value, low, high, 1)

    written = {}
    for name, parts in {
        "never said later": ["value", "low", "high", "n", "different"],
        "not said next": ["not_next", "not_next_low", "not_next_high", "intermediate", "intermediate_different"],
    }.items():
        numbers = table[parts].to_numpy(float)
        written[f"{name}, %"] = [write(*row) for row in numbers]
        written[f"{name}, n"] = ["" if np.isnan(row[3]) else write_count(*row[3:]) for row in numbers]
    published = table["published_not_next"].fillna("")
    return table[["source", "model", "corpus"]].assign(**written, **{"not said next, published": published})


def largest(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 2: the largest step probability at r = 1, 2, last against intermediate steps as split violins.

    table: model, corpus, step, last, answer, first, one row a label step (`steps.gather`). Under each pair stand the
    numbers of steps, and of different answers; ten or fewer steps are dots; a group without a step is named in words.
    Raises ValueError for no rows.
    """
    fig = panels.shapes(table, ["first"], "largest probability")
    medians = panels.describe(table, ["first"], "median")
    fig.alt = f"Split violins of the largest step probability, last against intermediate steps. Medians: {medians}."
    return fig


def second(table: pd.DataFrame, summary: pd.DataFrame) -> Drawing:
    """Returns Fig. 3: the second-highest probability at r = 1, 2, and what becomes of the second label.

    At intermediate steps: the probability at r of the label said next (where it is not the largest at r), and that at
    r + 1 of the label that was second at r. table: as `largest`, with second, next_said, second_next, second_is_next,
    next_label, top1. summary: `steps.summarise`, for the share of steps at which the second label is said next,
    written at the top. Raises ValueError for no rows.
    """
    fig = panels.shapes(table, ["second", "next_said", "second_next"], "step probability")
    for axis in fig.axes:
        model, corpus = axis.shown
        shares = where(summary, quantity="second_is_next", model=model, corpus=corpus).set_index("step")
        for at, step in zip((1, 4), STEPS, strict=True):
            if step in shares.index and (n := shares.loc[step, "n"]):
                mean, low, high = 100 * shares.loc[step, ["mean", "low", "high"]]
                share = f"{mean:.0f} % [{low:.0f}, {high:.0f}]" if n >= FEW else f"{n * mean / 100:.0f} of {n:.0f}"
                axis.text(at, 1.04, f"second said next:\n{share}", ha="center", va="bottom", fontsize=6.5)
        axis.set(ylim=(-0.03, 1.34), yticks=np.linspace(0, 1, 5))
        axis.axvline(2.5, color="0.8", linewidth=0.5)
    fig.alt = (
        "Split violins of the second-highest probability, of the next label's, and of the second's one step later. "
        f"Means: {panels.describe(table, ['second', 'next_said', 'second_next', 'second_is_next'])}."
    )
    return fig


def first_step(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 4: label probabilities at the first step, sorted, a line a document, the median thick; the first 12.

    table: corpus, document, probability (one row a label), and model if there are several. Raises ValueError for no
    rows, and for documents of a corpus with different numbers of labels.
    """
    table = drawing.check(table, "corpus", "document", "probability")
    corpora, models = (table[column].unique().tolist() for column in ("corpus", "model"))
    fig, axes = drawing.panels(product(models, corpora), len(corpora), 1.5, 0.5, sharey=True)
    words = []
    for (model, corpus), axis in axes.items():
        rows = where(table, corpus=corpus, model=model)
        if rows.empty:
            axis.set_axis_off()
            continue
        lines = [np.sort(values)[::-1] for _, values in rows.groupby("document")["probability"]]
        if len(set(map(len, lines))) > 1:
            raise ValueError(f"{corpus}: documents have different numbers of labels; a document needs a row a label")
        lines = np.array(lines)[:, :LONGEST]  # (documents, ranks)
        ranks, medians = np.arange(1, lines.shape[1] + 1), np.median(lines, axis=0)
        axis.plot(ranks, lines.T, color=BLUE, alpha=max(0.06, min(0.5, 12 / len(lines))), linewidth=0.5)
        axis.plot(ranks, medians, color=BLACK, linewidth=1.4, marker="o", markersize=3)
        axis.set(xticks=ranks, ylim=(-0.02, 1.02))
        axis.set_title(f"{plain(corpus_title(corpus))}, n = {len(lines)}")
        drawing.label(axis, "label rank", "probability" + (f"\n{plain(model)}" if len(models) > 1 else ""))
        named = f"{model} on {corpus}" if model else corpus
        words.append(f"{named}, n = {len(lines)}; the median top probability is {medians[0]:.2f}")
    median = handle("median at each rank", color=BLACK, linewidth=1.4, marker="o", markersize=3)
    fig.legend_below([handle("one document", color=BLUE, linewidth=0.5), median], 2)
    fig.alt = f"Sorted label probabilities at the first step, one line a document: {'. '.join(words)}."
    return fig


def accuracies(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 5: accuracy of the first and of the second label said, colour and marker a corpus, dash a model.

    table: `steps.accuracy`; rows of documents with two or more gold labels are drawn, points of ten documents or fewer
    are dropped and named. Raises ValueError for no rows.
    """
    table = drawing.check(table, "model", "corpus", "gold", "label", "mean", "low", "high", "n", "different", "shown")
    table = table[table["gold"] == "two or more"]
    models = table["model"].unique()
    looks = dict(zip(table["corpus"].unique(), cycle(LINES), strict=False))
    dashes = dict(zip(models, cycle(DASHES), strict=False))
    lines = list(table.groupby(["model", "corpus"], sort=False))
    fig = Drawing(height=2.2 + 0.13 * len(lines))
    axis, dropped = fig.subplots(), []
    for number, ((model, corpus), rows) in enumerate(lines):
        name = plain(corpus_title(corpus) + (f", {model}" if len(models) > 1 else ""))
        if not rows["shown"].all():
            dropped.append(f"{name} ({rows['n'].iloc[0]})")
            continue
        rows = rows.set_index("label").loc[["first", "second"]]
        x = np.arange(2) + 0.05 * (number - (len(lines) - 1) / 2)
        style = looks[corpus] | dict(
            linestyle=dashes[model], label=f"{name}, n = {write_count(*rows[['n', 'different']].iloc[0])}"
        )
        drawing.intervals(axis, x, rows["mean"], y_ends=(rows["low"], rows["high"]), **style)
    axis.set_xticks([0, 1], ["first label said", "second label said"])
    axis.set(xlim=(-0.4, 1.4), ylim=(0, 1), ylabel="accuracy (in the gold set)")
    axis.grid(True, axis="y")
    if len(dropped) < len(lines):
        fig.legend(loc="outside lower center", ncols=1)
    else:
        drawing.say(axis, "no model has enough answers with two or more labels", 0.5)
    if dropped:
        words = f"Dropped, answers with two or more labels: {', '.join(dropped)}."
        axis.set_xlabel(textwrap.fill(words, 54), fontsize=7, color=GREY)
    few, pattern = "no model has more than ten such answers", "{model}, {corpus}, {label}: {mean:.2f} (n = {n})"
    fig.alt = f"Accuracy of the first and second label said: {told(table[table['shown']], pattern, few)}."
    return fig


def boxes(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 9: the largest and the second step probability at r = 1, 2, last against intermediate steps.

    Box plots, whiskers 1.5 times the range between the quartiles. table: as `largest`, with second. Raises ValueError
    for no rows.
    """
    fig = panels.shapes(table, ["first", "second"], "step probability", plot=sns.boxplot, style=BOX)
    fig.alt = (
        "Box plots of the largest and the second step probability at r = 1 and 2, last against intermediate steps: "
        f"the numbers of Fig. 2 and 3 for {', '.join(table['corpus'].unique())}."
    )
    return fig


def entropies(table: pd.DataFrame, labels: Mapping[str, int]) -> Drawing:
    """Returns Fig. 10: the entropy of the step distributions in bits, drawn as Fig. 2.

    table: as `largest`, with entropy. labels: the number of labels of each corpus; the dashed line is the entropy of
    a step that knows nothing, log2(labels + 1). Raises ValueError for no rows.
    """
    uniform = handle("all labels and none equal", color=GREY, linestyle="--", linewidth=0.7)
    fig = panels.shapes(table, ["entropy"], "entropy, bits", handles=[uniform])
    tops = {corpus: np.log2(labels[corpus] + 1) for corpus in table["corpus"].unique()}
    for axis in fig.axes:
        top = tops[axis.shown[1]]
        axis.axhline(top, color=GREY, linestyle="--", linewidth=0.7)
        axis.set_ylim(-0.05 * top, 1.08 * top)
        axis.yaxis.set_major_locator(MultipleLocator(1 if top < 5 else 2))
    most = ", ".join(f"{corpus} {top:.2f}" for corpus, top in tops.items())
    fig.alt = (
        f"Split violins of the entropy of step distributions. Mean bits: {panels.describe(table, ['entropy'])}. "
        f"All labels and none equal: {most}."
    )
    return fig


def second_ranks(table: pd.DataFrame) -> Drawing:
    """Returns Fig. 11, reading A: the rank that the labels said second and third had at the first step.

    table: `steps.ranks`. Hollow marks at rank 2 are the paper's shares of second labels. Shares of ten answers or fewer
    are not drawn: words say how many there are. Ranks behind the eighth are joined into the last bar.
    """
    table = drawing.check(
        table, "model", "corpus", "reading", "label", "place", "mean", "low", "high", "n", "different"
    )

    def draw(axis, rows):
        rows = rows[rows["reading"] == "A"]
        asked = rows.groupby("label")["n"].max()  # answers with a second, and with a third label
        axis.set_ylim(0, 1.05)
        if rows.empty or asked.max() < FEW:
            axis.set_xticks([])
            few = f"too few answers with two or more labels (n = {asked.max():.0f})"
            drawing.say(axis, "no answer with two or more labels" if rows.empty else few, 0.5)
            return
        numbers = " / ".join(f"{n:,.0f}" if n >= FEW else f"{n:,.0f} (too few)" for n in asked)
        box = dict(facecolor="white", edgecolor="none", pad=1)
        different = " / ".join(f"{each:.1f}" for each in rows.groupby("label")["different"].max())
        words = f"n = {numbers}\n({different} different)"
        axis.text(8.9, 0.9, words, ha="right", va="center", size=7, bbox=box)
        for label, (side, style) in BARS.items():
            found = rows[(rows["label"] == label) & (rows["n"] >= FEW) & (rows["mean"] > 0)]
            shares = found.groupby(found["place"].clip(upper=RANKS + 1))["mean"].sum()
            axis.bar(shares.index + side, shares, width=0.38, linewidth=0.6, **style)
            near = found[found["place"] <= RANKS]
            style = dict(fmt="none", ecolor=BLACK, elinewidth=0.7)
            drawing.intervals(axis, near["place"] + side, near["mean"], y_ends=(near["low"], near["high"]), **style)
        for size, style in PUBLISHED.items():
            axis.plot(1.8, SECOND_RANK[size], **style)
        axis.set_xticks(range(1, RANKS + 2), [*map(str, range(1, RANKS + 1)), "on"])
        axis.set_xlim(0.4, RANKS + 1.6)

    fig = panels.grid(table, draw, "share of answers", "rank at the first step", 1.5, 3)
    ours = [Patch(**style) for _, style in BARS.values()]
    fig.legend_below([*ours, *(handle(f"published, second, {size}", **each) for size, each in PUBLISHED.items())], 2)
    shown = where(table, reading="A", label=2, place=2)
    few, pattern = "no model has more than ten answers with two labels", "{model}, {corpus}: {mean:.2f} (n = {n})"
    fig.alt = (
        "Rank at the first step of the labels said second and third. Share of second labels that were second: "
        f"{told(shown[shown['n'] >= FEW], pattern, few)}. "
        f"Published: {', '.join(f'{share:.2f} at {size}' for size, share in SECOND_RANK.items())}."
    )
    return fig
