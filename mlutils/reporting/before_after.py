"""What tuning and size change, as pictures: before/after, and the ladder of sizes."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mlutils.readouts import changes
from mlutils.readouts.changes import ALL, QUANTITIES
from mlutils.readouts.model_names import BASE
from mlutils.reporting.changes import TUNINGS, in_percent, order_tunings, tuning_title
from mlutils.reporting.figures import TEXT
from mlutils.reporting.looks import BLUE, BROWN, GREEN, GREY, ORANGE, SKY
from mlutils.reporting.pictures import plain, use_style

SHOTS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (BROWN, "D"))
PANELS = tuple(name for name, quantity in QUANTITIES.items() if quantity.drawn)
RUNGS = ("top1_first", "top1_later", "entropy_first", "second_next", "second_never", "micro_f1")
RUNGS += ("nll max_over_generations", "nll compare_to_none")


def before_after(levels: pd.DataFrame) -> Figure:
    """Returns dots with 95 % intervals, a panel a quantity, a row a tuning, a colour a number of demonstrations.

    levels: of `changes.compare`, one corpus, sample and base model. Hollow, and a dashed line with its interval: the
    base model. Full: the mean over seeds (faint: each of them), or the first seed. Raises ValueError for several bases.
    """
    use_style()
    if len(levels[["corpus", "documents", "base"]].drop_duplicates()) != 1:
        raise ValueError("before_after draws one corpus, sample and base model: give the rows of one")
    tunings, numbers = order_tunings(levels), sorted(set(levels["shots"]))
    if len(numbers) > len(SHOTS):
        raise ValueError(f"{len(numbers)} numbers of demonstrations are too many for one figure, at most {len(SHOTS)}")
    measured = set(levels.loc[levels["n"] > 0, "quantity"])
    names = [name for name in PANELS if name in measured or not name.startswith("nll")]
    columns = _columns(names)
    lines = -(-len(names) // columns)
    fig = Figure(figsize=(TEXT, lines * (0.2 * len(tunings) + 0.62) + 0.35), layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False)
    for k, axis in enumerate(axes.flat):
        if k >= len(names):
            axis.set_axis_off()
            continue
        rows = in_percent(levels[levels["quantity"] == names[k]])
        _draw_panel(axis, rows, tunings, numbers)
        n = sorted({int(each) for each in rows["n"]} or {0})
        many = f"{n[0]}" if len(n) == 1 else f"{n[0]}-{n[-1]}"
        axis.set_title(plain(textwrap.fill(QUANTITIES[names[k]].title, 24)) + f"\nn = {many}", fontsize=7)
        axis.set_yticks(
            range(len(tunings)),
            [plain(tuning_title(*each, levels["corpus"].iloc[0])) for each in tunings] if k % columns == 0 else [],
        )
        axis.set_ylim(len(tunings) - 0.45, -0.55)
        axis.tick_params(axis="y", length=0)
        axis.grid(True, axis="x")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=f"{number} demonstrations")
        for number, (colour, marker) in zip(numbers, SHOTS, strict=False)
    ]
    handles.append(Line2D([], [], color=GREY, marker="o", fillstyle="none", linestyle="--", label="base model"))
    if (levels["seed"] == ALL).any():
        handles.append(Line2D([], [], color=GREY, marker=".", alpha=0.5, linestyle="none", label="one seed"))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def _draw_panel(axis, rows, tunings, numbers):
    """Draws a quantity: a row a tuning, demonstrations side by side."""
    apart = 0.34 / max(1, len(numbers) - 1)
    for j, (number, (colour, marker)) in enumerate(zip(numbers, SHOTS, strict=False)):
        shift = (j - (len(numbers) - 1) / 2) * apart if len(numbers) > 1 else 0
        for place, (tuning, tuned_on) in enumerate(tunings):
            found = rows[(rows["shots"] == number) & (rows["tuning"] == tuning) & (rows["tuned_on"] == tuned_on)]
            if found.empty:
                continue
            main, seeds = _main(found)
            if np.isnan(main["mean"]):
                axis.text(0.02, place + shift, "none", transform=axis.get_yaxis_transform(), **_words(colour))
                continue
            style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 3.6, "zorder": 3}
            axis.errorbar(
                main["mean"],
                place + shift,
                xerr=_arms(main),
                elinewidth=0.8,
                fillstyle="none" if tuning == BASE else "full",
                **style,
            )
            axis.plot(seeds, np.full(len(seeds), place + shift), ".", color=colour, alpha=0.45, ms=3, zorder=2)
            if tuning == BASE:
                axis.axvline(main["mean"], color=colour, linestyle="--", linewidth=0.6, zorder=1)
                if not np.isnan([main["low"], main["high"]]).any():
                    axis.axvspan(main["low"], main["high"], color=colour, alpha=0.12, linewidth=0, zorder=0)
    if not rows["mean"].notna().any():
        axis.set_xticks([])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))


def ladder(levels: pd.DataFrame, sizes: Mapping[str, int], rungs: Sequence[str]) -> Figure:
    """Returns quantities against the number of parameters (log scale), a panel a quantity, a line a tuning.

    levels: of `changes.compare`, one corpus, sample and number of demonstrations; sizes: parameters by base model.
    Lines join the base models of the ladder (rungs); other models stand by themselves. With 95 % intervals. Raises
    ValueError where no model has a size.
    """
    use_style()
    levels = changes.final(levels[levels["base"].isin(sizes)])
    if levels.empty:
        raise ValueError(f"no model of the table has a size; sizes are known of {', '.join(sizes) or 'none'}")
    measured = set(levels.loc[levels["n"] > 0, "quantity"])
    names = [name for name in RUNGS if name in measured or not name.startswith("nll")]
    tunings, columns = order_tunings(levels), _columns(names)
    lines = -(-len(names) // columns)
    fig = Figure(figsize=(TEXT, 1.5 * lines + 0.75), layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False, sharex=True)
    shown = sorted({sizes[base] for base in levels["base"]})
    for k, axis in enumerate(axes.flat):
        if k >= len(names):
            axis.set_axis_off()
            continue
        rows = in_percent(levels[levels["quantity"] == names[k]])
        for i, each in enumerate(tunings):
            found = rows[(rows["tuning"] == each[0]) & (rows["tuned_on"] == each[1])].dropna(subset="mean")
            found = (
                found.assign(size=found["base"].map(sizes).astype(float))
                .sort_values("size")
                .groupby("base", sort=False)
                .head(1)
            )
            style = _tuning_style(each[0])
            spread = 1.1 ** (i - (len(tunings) - 1) / 2)  # side by side
            joined = found["base"].isin(rungs)
            axis.plot(found["size"][joined] * spread, found["mean"][joined], color=style["color"], ls=style["ls"])
            for row in found.to_dict("records"):
                marks = {name: value for name, value in style.items() if name != "ls"}
                axis.errorbar(
                    row["size"] * spread, row["mean"], _arms(row), elinewidth=0.8, ls="none", markersize=3.6, **marks
                )
        if not rows["mean"].notna().any():
            axis.text(0.5, 0.5, "no answer has\nsuch a step", transform=axis.transAxes, ha="center", **_words(GREY))
        axis.set_xscale("log")
        axis.set_xlim(shown[0] / 1.8, shown[-1] * 1.8)
        axis.xaxis.set_major_locator(FixedLocator(shown))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1e6:.3g}"))
        axis.set_title(plain(textwrap.fill(QUANTITIES[names[k]].title, 24)), fontsize=7)
        axis.grid(True, axis="y")
    for axis in axes[-1]:
        axis.set_xlabel("parameters, millions")
    corpus = levels["corpus"].iloc[0]
    handles = [
        Line2D([], [], label=plain(tuning_title(*each, corpus)), markersize=3.6, **_tuning_style(each[0]))
        for each in tunings
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return fig


def _main(found):
    """Returns the row to draw, and the values of the seeds beside it."""
    pooled = found[found["seed"] == ALL]
    seeds = found[found["seed"] != ALL].sort_values("seed")
    if len(pooled):
        return pooled.iloc[0], seeds["mean"].dropna().to_numpy()
    return seeds.iloc[0], seeds["mean"].iloc[1:].dropna().to_numpy()


def _tuning_style(tuning):
    last = tuning.rpartition("+")[2]
    _, colour, marker, dash = TUNINGS.get(last, (last, SKY, "X", ":"))
    return {"color": colour, "marker": marker, "ls": dash, "fillstyle": "none" if "+" in tuning else "full"}


def _columns(names):
    return 3 if len(names) % 4 in (1, 2) else 4  # the last row should not look empty


def _arms(row):
    if np.isnan([row["low"], row["high"]]).any():
        return None
    return [[max(row["mean"] - row["low"], 0)], [max(row["high"] - row["mean"], 0)]]


def _words(colour):
    return {"color": colour, "fontsize": 6, "va": "center"}
