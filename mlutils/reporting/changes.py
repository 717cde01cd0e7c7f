"""What tuning and size change, as pictures: before/after, Fig. 2, 3 and 12, and the ladder of sizes."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mlutils.metrics import METRICS
from mlutils.readouts import changes
from mlutils.readouts import steps as label_steps
from mlutils.readouts.changes import ALL, QUANTITIES
from mlutils.readouts.model_names import BASE
from mlutils.reporting import changes_tables, drawing, steps
from mlutils.reporting.changes_tables import SHOWN, TUNINGS, in_percent, order_tunings, tuning_title
from mlutils.reporting.drawing import TEXT, Drawing, dots, handle, line, plain, told, where
from mlutils.reporting.looks import GREY, SKY, look, order

RUNGS = ("top1_first", "top1_later", "entropy_first", "second_next", "second_never", "micro_f1")
RUNGS += ("nll max_over_generations", "nll compare_to_none")
FIG_12 = ("nll", "f1")
FILLS = {"base": "none", "tuned": "full"}  # of marks in Fig. 12


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
    handles = [handle(f"{number} demonstrations", **dots(style)) for number, style in looks.items()]
    handles.append(handle("base model", **line(GREY, "o", "--", fillstyle="none")))
    if (levels["seed"] == ALL).any():
        handles.append(handle("one seed", **line(GREY, ".", "none", alpha=0.5)))
    fig.legend_below(handles, len(handles))
    words = " ".join(_describe(levels, name) for name in ("top1_first", "f1 hard_predictions"))
    fig.alt = f"{base} before and after tuning on {corpus} ({documents}), a panel a quantity. {words}"
    return fig


def _draw_tunings(axis, rows, tunings, looks):
    """Draws a quantity: a row a tuning, demonstrations side by side."""
    apart = 0.34 / max(1, len(looks) - 1)
    for (j, (shots, style)), (i, (tuning, tuned_on)) in product(enumerate(looks.items()), enumerate(tunings)):
        found = where(rows, shots=shots, tuning=tuning, tuned_on=tuned_on)
        if found.empty:
            continue
        colour, place = style["color"], i + (j - (len(looks) - 1) / 2) * apart
        # The row over seeds comes first, where there is one, else the first seed.
        main, *seeds = found.sort_values("seed", key=lambda seed: seed.replace(ALL, "")).itertuples()
        if np.isnan(main.mean):
            words = dict(color=colour, fontsize=6, va="center")
            axis.text(0.02, place, "none", transform=axis.get_yaxis_transform(), **words)
            continue
        marks = dots(style, fillstyle="none" if tuning == BASE else "full", markersize=3.6, zorder=3)
        drawing.intervals(axis, main.mean, place, (main.low, main.high), **marks)
        axis.plot([each.mean for each in seeds], [place] * len(seeds), ".", color=colour, alpha=0.45, ms=3, zorder=2)
        if tuning == BASE:
            axis.axvline(main.mean, color=colour, linestyle="--", linewidth=0.6, zorder=1)
            if not np.isnan([main.low, main.high]).any():
                axis.axvspan(main.low, main.high, color=colour, alpha=0.12, linewidth=0, zorder=0)
    if rows["mean"].notna().any():
        axis.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    else:
        axis.set_xticks([])


def largest(table: pd.DataFrame, base: str) -> Drawing:
    """Returns Fig. 2 before and after tuning, a row a tuning; table: of `changes_tables.gather_steps`."""
    fig = steps.largest(table)
    what = f"The largest step probability of {base} before and after, last against intermediate steps, a row a tuning"
    fig.alt = f"{what}. Medians at r = 1: {_describe_steps(table, 'first')}."
    return fig


def second(table: pd.DataFrame, base: str) -> Drawing:
    """Returns Fig. 3 before and after tuning, a row a tuning; table: of `changes_tables.gather_steps`."""
    fig = steps.second(table, label_steps.summarise(table))
    what = f"The second-highest step probability of {base} before and after, and what becomes of the second label"
    fig.alt = f"{what}. Medians at r = 1: {_describe_steps(table, 'second')}."
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
            place = shown.index(row["method"])
            axis.plot([row["mean_base"], row["mean_tuned"]], [place, place], color="0.6", linewidth=0.7, zorder=1)
            for side, shift in (("base", -0.12), ("tuned", 0.12)):
                mean, low, high = (row[f"{part}_{side}"] for part in ("mean", "low", "high"))
                style = drawing.mark(row["method"]) | {"fillstyle": FILLS[side]}
                drawing.intervals(axis, mean, place + shift, (low, high), **style)
        axis.set_yticks(range(len(shown)), [plain(look(name).title) if drawing.is_left(axis) else "" for name in shown])
        axis.set_ylim(len(shown) - 0.4, -0.6)
        if metric == "nll":
            drawing.log_axis(axis.xaxis)
        drawing.label(axis, METRICS[metric].axis_label, "")
        if drawing.is_left(axis):
            corpora = int(rows["corpora"].max())
            title = f"{base} against {tuned}, {corpora} {'corpus' if corpora == 1 else 'corpora'}"
            axis.set_title(plain(textwrap.fill(title, 100)), loc="left", fontweight="bold")
    fig.legend_below([handle(side, **line(GREY, "o", "none", fillstyle=fill)) for side, fill in FILLS.items()], 2)
    words = "; ".join(f"{base} against {tuned}" for base, tuned in pairs)
    fig.alt = f"NLL and example-F1 of each readout, hollow: base model, full: tuned. Pairs: {words}."
    return fig


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
            x = found["base"].map(sizes).astype(float) * 1.1 ** (i - (len(tunings) - 1) / 2)  # side by side
            joined = found["base"].isin(rungs)
            axis.plot(x[joined], found["mean"][joined], **_style(tuning) | {"marker": ""})
            drawing.intervals(axis, x, found["mean"], y_ends=(found["low"], found["high"]), **dots(_style(tuning)))
        if rows.empty:
            drawing.say(axis, "no answer has\nsuch a step")
        axis.set_xscale("log")
        axis.set_xticks(shown, [f"{size / 1e6:.3g}" for size in shown])
        axis.minorticks_off()
        axis.set_xlim(shown[0] / 1.8, shown[-1] * 1.8)
        axis.set_title(_panel_title(name), fontsize=7)
        drawing.label(axis, "parameters, millions", "")
    handles = [handle(plain(tuning_title(*each, corpus)), **_style(each[0])) for each in tunings]
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
    _, style = TUNINGS.get(last, (last, line(SKY, "X", ":")))
    return style | dict(fillstyle="none" if "+" in tuning else "full", markersize=3.6)


def _describe(levels, quantity):
    """Returns the rows to read of a quantity in words."""
    rows = in_percent(changes.final(where(levels, quantity=quantity))).dropna(subset="mean")
    titles = [tuning_title(*each) for each in rows[["tuning", "tuned_on", "corpus"]].to_numpy()]
    rows = rows.assign(title=titles).round({"mean": 2}).drop_duplicates(["base", "title", "shots", "mean"])
    return f"{QUANTITIES[quantity].title}: {told(rows, '{base}, {title}, {shots} shots {mean:.2f}')}."


def _describe_steps(table, quantity):
    """Returns the medians at r = 1 of a quantity of `gather_steps` in words."""
    medians = where(table, step=1).groupby(["model", "corpus"], sort=False)[quantity].median()
    return told(medians.reset_index(name="median"), "{model}, {corpus} {median:.2f}")
