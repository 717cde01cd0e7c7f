"""What tuning and size change, as pictures: before/after, Fig. 2, 3 and 12, and the ladder of sizes."""

import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mlutils.metrics import METRICS
from mlutils.readouts import changes
from mlutils.readouts import steps as label_steps
from mlutils.readouts.changes import ALL, QUANTITIES
from mlutils.readouts.model_names import BASE
from mlutils.reporting import changes_tables, drawing, steps
from mlutils.reporting.changes_tables import SHOWN, TUNINGS, in_percent, order_tunings, tuning_title
from mlutils.reporting.drawing import TEXT, Drawing, handle, plain, where
from mlutils.reporting.looks import GREY, SKY, look, order

RUNGS = ("top1_first", "top1_later", "entropy_first", "second_next", "second_never", "micro_f1")
RUNGS += ("nll max_over_generations", "nll compare_to_none")
FIG_12 = ("nll", "f1")


def before_after(levels: pd.DataFrame) -> Drawing:
    """Returns dots with 95 % intervals, a panel a quantity, a row a tuning, a colour a number of demonstrations.

    levels: of `changes.compare`, one corpus, sample and base model. Hollow, and a dashed line with its interval: the
    base model. Full: the mean over seeds (faint: each of them), or the first seed. Raises ValueError for several bases
    and for too many numbers of demonstrations.
    """
    levels = drawing.check(levels, *changes.COLUMNS)
    shown = levels[["corpus", "documents", "base"]].drop_duplicates().to_numpy().tolist()
    if len(shown) != 1:
        raise ValueError(f"before_after draws one corpus, sample and base model, not {shown}: give the rows of one")
    corpus, documents, base = shown[0]
    tunings = order_tunings(levels)
    looks = drawing.cycle(sorted(set(levels["shots"])), "numbers of demonstrations")
    names = _measured(levels, SHOWN)
    fig, axes = drawing.panels(names, _columns(names), 0.2 * len(tunings) + 0.62, 0.35, TEXT, "x")
    for name, axis in axes.items():
        rows = in_percent(where(levels, quantity=name))
        _draw_tunings(axis, rows, tunings, looks)
        axis.set_title(f"{_panel_title(name)}\n{drawing.counts(rows['n'])}", fontsize=7)
        titles = [plain(tuning_title(*each, corpus)) for each in tunings]
        axis.set_yticks(range(len(tunings)), titles if drawing.is_left(axis) else [])
        axis.set_ylim(len(tunings) - 0.45, -0.55)
        axis.tick_params(axis="y", length=0)
    handles = [
        handle(f"{number} demonstrations", color=colour, marker=marker, linestyle="none")
        for number, (colour, marker, _) in looks.items()
    ]
    handles.append(handle("base model", color=GREY, marker="o", fillstyle="none", linestyle="--"))
    if (levels["seed"] == ALL).any():
        handles.append(handle("one seed", color=GREY, marker=".", alpha=0.5, linestyle="none"))
    fig.legend_below(handles, len(handles))
    told = " ".join(_describe(levels, name) for name in ("top1_first", "f1 hard_predictions"))
    fig.alt = f"{base} before and after tuning on {corpus} ({documents}), a panel a quantity. {told}"
    return fig


def _draw_tunings(axis, rows, tunings, looks):
    """Draws a quantity: a row a tuning, demonstrations side by side."""
    apart = 0.34 / max(1, len(looks) - 1)
    for j, (number, (colour, marker, _)) in enumerate(looks.items()):
        shift = (j - (len(looks) - 1) / 2) * apart
        for place, (tuning, tuned_on) in enumerate(tunings):
            found = where(rows, shots=number, tuning=tuning, tuned_on=tuned_on)
            if found.empty:
                continue
            main, seeds = _main(found)
            if np.isnan(main["mean"]):
                words = dict(color=colour, fontsize=6, va="center")
                axis.text(0.02, place + shift, "none", transform=axis.get_yaxis_transform(), **words)
                continue
            style = dict(color=colour, marker=marker, fillstyle="none" if tuning == BASE else "full", markersize=3.6)
            drawing.intervals(axis, main["mean"], place + shift, main["low"], main["high"], False, zorder=3, **style)
            axis.plot(seeds, np.full(len(seeds), place + shift), ".", color=colour, alpha=0.45, ms=3, zorder=2)
            if tuning == BASE:
                axis.axvline(main["mean"], color=colour, linestyle="--", linewidth=0.6, zorder=1)
                if not np.isnan([main["low"], main["high"]]).any():
                    axis.axvspan(main["low"], main["high"], color=colour, alpha=0.12, linewidth=0, zorder=0)
    if not rows["mean"].notna().any():
        axis.set_xticks([])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))


def _main(found):
    """Returns the row to draw, and the values of the seeds beside it."""
    pooled, seeds = found[found["seed"] == ALL], found[found["seed"] != ALL].sort_values("seed")
    if len(pooled):
        return pooled.iloc[0], seeds["mean"].dropna().to_numpy()
    return seeds.iloc[0], seeds["mean"].iloc[1:].dropna().to_numpy()


def largest(table: pd.DataFrame, base: str) -> Drawing:
    """Returns Fig. 2 before and after tuning, a row a tuning; table: of `changes_tables.gather_steps`."""
    fig = steps.largest(table)
    fig.alt = (
        f"The largest step probability of {base} before and after, last against intermediate steps, a row a tuning. "
        f"Medians at r = 1: {_describe_steps(table, 'first')}."
    )
    return fig


def second(table: pd.DataFrame, base: str) -> Drawing:
    """Returns Fig. 3 before and after tuning, a row a tuning; table: of `changes_tables.gather_steps`."""
    fig = steps.second(table, label_steps.summarise(table))
    fig.alt = (
        f"The second-highest step probability of {base} before and after, and what becomes of the second label. "
        f"Medians at r = 1: {_describe_steps(table, 'second')}."
    )
    return fig


def base_against_tuned(paired: pd.DataFrame) -> Drawing:
    """Returns Fig. 12: NLL (log scale) and example-F1, a row a method; hollow: the base model, full: the tuned one.

    paired: of `changes_tables.pair_up`. A panel row a pair of models.
    """
    pairs = list(dict.fromkeys(zip(paired["base"], paired["tuned"], strict=True)))
    methods = {pair: sorted(set(rows["method"]), key=order) for pair, rows in paired.groupby(["base", "tuned"])}
    height = sum(0.2 * len(each) + 0.9 for each in methods.values())
    keys = [(*pair, metric) for pair in pairs for metric in FIG_12]
    fig, axes = drawing.panels(keys, len(FIG_12), 0, height, grid="x", sharex="col")
    for (base, tuned, metric), axis in axes.items():
        rows, shown = where(paired, base=base, tuned=tuned), methods[base, tuned]
        for row in where(rows, metric=metric).to_dict("records"):
            _draw_pair(axis, row, shown.index(row["method"]))
        axis.set_yticks(range(len(shown)), [plain(look(name).title) if drawing.is_left(axis) else "" for name in shown])
        axis.set_ylim(len(shown) - 0.4, -0.6)
        if metric == "nll":
            drawing.log_axis(axis.xaxis)
        if drawing.is_bottom(axis):
            axis.set_xlabel(METRICS[metric].axis_label)
        if drawing.is_left(axis):
            corpora = int(rows["corpora"].max())
            title = f"{base} against {tuned}, {corpora} {'corpus' if corpora == 1 else 'corpora'}"
            axis.set_title(plain(textwrap.fill(title, 100)), loc="left", fontweight="bold")
    grey = dict(color=GREY, marker="o", linestyle="none")
    fig.legend_below([handle("base", fillstyle="none", **grey), handle("tuned", fillstyle="full", **grey)], 2)
    told = "; ".join(f"{base} against {tuned}" for base, tuned in pairs)
    fig.alt = f"NLL and example-F1 of each readout, hollow: base model, full: tuned. Pairs: {told}."
    return fig


def _draw_pair(axis, row, place):
    axis.plot([row["mean_base"], row["mean_tuned"]], [place, place], color="0.6", linewidth=0.7, zorder=1)
    for side, shift, fill in (("base", -0.12, "none"), ("tuned", 0.12, "full")):
        mean, low, high = (row[f"{part}_{side}"] for part in ("mean", "low", "high"))
        style = drawing.mark(row["method"]) | {"fillstyle": fill}
        drawing.intervals(axis, mean, place + shift, low, high, False, **style)


def ladder(levels: pd.DataFrame, sizes: Mapping[str, int], rungs: Sequence[str]) -> Drawing:
    """Returns quantities against the number of parameters (log scale), a panel a quantity, a line a tuning.

    levels: of `changes.compare`, one corpus, sample and number of demonstrations; sizes: parameters by base model.
    Lines join the base models of the ladder (rungs); other models stand by themselves. With 95 % intervals. Raises
    ValueError where no model has a size.
    """
    levels = changes_tables.order_models(changes.final(levels[levels["base"].isin(sizes)]), sizes)
    if levels.empty:
        raise ValueError(f"no model of the table has a size; sizes are known of {', '.join(sizes) or 'none'}")
    corpus, documents = levels[["corpus", "documents"]].iloc[0]
    names, tunings = _measured(levels, RUNGS), order_tunings(levels)
    shown = sorted({sizes[base] for base in levels["base"]})
    fig, axes = drawing.panels(names, _columns(names), 1.5, 0.75, TEXT, sharex=True)
    for name, axis in axes.items():
        rows = in_percent(where(levels, quantity=name)).dropna(subset="mean")
        for i, (tuning, tuned_on) in enumerate(tunings):
            found = where(rows, tuning=tuning, tuned_on=tuned_on).groupby("base", sort=False).head(1)
            style = _style(tuning)
            x = found["base"].map(sizes).astype(float) * 1.1 ** (i - (len(tunings) - 1) / 2)  # side by side
            joined = found["base"].isin(rungs)
            axis.plot(x[joined], found["mean"][joined], color=style["color"], linestyle=style["linestyle"])
            alone = style | dict(linestyle="none", markersize=3.6)
            for at, row in zip(x, found.to_dict("records"), strict=True):
                drawing.intervals(axis, at, row["mean"], row["low"], row["high"], **alone)
        if rows.empty:
            drawing.say(axis, "no answer has\nsuch a step")
        axis.set(xscale="log", xlim=(shown[0] / 1.8, shown[-1] * 1.8))
        axis.xaxis.set_major_locator(FixedLocator(shown))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1e6:.3g}"))
        axis.set_title(_panel_title(name), fontsize=7)
        if drawing.is_bottom(axis):
            axis.set_xlabel("parameters, millions")
    handles = [handle(plain(tuning_title(*each, corpus)), markersize=3.6, **_style(each[0])) for each in tunings]
    fig.legend_below(handles, min(4, len(handles)))
    fig.alt = f"Quantities against parameters on {corpus} ({documents}). {_describe(levels, 'entropy_first')}"
    return fig


def file_name(*words: str) -> str:
    """Returns a file's name of some words."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", word).strip("_.-") for word in words)


def _measured(levels, names):
    """Returns the quantities that have a panel: a readout that was not asked for has none."""
    measured = set(levels.loc[levels["n"] > 0, "quantity"])
    return [name for name in names if name in measured or not name.startswith("nll")]


def _columns(names):
    return 3 if len(names) % 4 in (1, 2) else 4  # the last row should not look empty


def _panel_title(name):
    return plain(textwrap.fill(QUANTITIES[name].title, 24))


def _style(tuning):
    last = tuning.rpartition("+")[2]
    _, colour, marker, dash = TUNINGS.get(last, (last, SKY, "X", ":"))
    return dict(color=colour, marker=marker, linestyle=dash, fillstyle="none" if "+" in tuning else "full")


def _describe(levels, quantity):
    """Returns the rows to read of a quantity in words."""
    rows = in_percent(changes.final(where(levels, quantity=quantity))).dropna(subset="mean")
    told = [
        f"{row.base}, {tuning_title(row.tuning, row.tuned_on, row.corpus)}, {row.shots} shots {row.mean:.2f}"
        for row in rows.itertuples()
    ]
    return f"{QUANTITIES[quantity].title}: {'; '.join(dict.fromkeys(told)) or 'none'}."


def _describe_steps(table, quantity):
    """Returns the medians at r = 1 of a quantity of `gather_steps` in words."""
    medians = table[table["step"] == 1].groupby(["model", "corpus"], sort=False)[quantity].median()
    return "; ".join(f"{corpus}, {tuned} {value:.2f}" for (corpus, tuned), value in medians.items())
