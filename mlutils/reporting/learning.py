"""Learning curves of finetuning: loss, held-out loss, reward and KL divergence against steps, a line a seed."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mlutils.reporting.figures import COLUMN, GREY, TEXT, log_axis
from mlutils.reporting.pictures import use_style
from mlutils.reporting.variants import LINES

PANELS = {"loss": "loss, nats", "reward": "reward", "kl": "KL from the start, nats"}
WINDOW = 0.08  # share of the logged steps over which the thick line is the mean


def curves(table: pd.DataFrame) -> Figure:
    """Returns learning curves: a panel each for loss, reward and KL divergence where they are known, a line a seed.

    table: seed, step, loss, held_loss, reward, kl (NaN where unknown). Thin lines are as logged, thick ones their
    running means; marks are the loss on documents set aside. Where a reward is known, the loss (which GRPO centres at
    0) is not drawn. Raises ValueError where there is nothing to draw, or there are too many seeds.
    """
    known = [name for name in PANELS if name in table and table[name].notna().any()]
    known = [name for name in known if not (name == "loss" and "reward" in known)]
    seeds = list(dict.fromkeys(table["seed"]))
    if not known:
        raise ValueError("table has neither loss nor reward, there is nothing to draw")
    if len(seeds) > len(LINES):
        raise ValueError(f"{len(seeds)} seeds are too many for one figure: give at most {len(LINES)}")
    use_style()
    fig = Figure(figsize=(COLUMN if len(known) == 1 else TEXT, 2.3), layout="constrained")
    held, looks = False, list(zip(seeds, LINES, strict=False))
    for axis, name in zip(fig.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        for seed, (colour, marker, dash) in looks:
            rows = table[table["seed"] == seed].sort_values("step")
            logged = rows.dropna(subset=name)
            smooth = logged[name].rolling(max(1, round(WINDOW * len(logged))), min_periods=1, center=True).mean()
            axis.plot(logged["step"], logged[name], color=colour, linewidth=0.4, alpha=0.45)
            axis.plot(logged["step"], smooth, color=colour, linestyle=dash)
            if name == "loss" and rows["held_loss"].notna().any():
                aside, held = rows.dropna(subset="held_loss"), True
                axis.plot(
                    aside["step"], aside["held_loss"], color=colour, marker=marker, linewidth=0.6, linestyle=":",
                    markersize=3.5,
                )  # fmt: skip
        if name == "loss" and logged[name].min() > 0:
            log_axis(axis.yaxis)  # learning the format takes off most of the loss, learning the labels a little
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("step")
        axis.set_ylabel(PANELS[name])
        axis.grid(True, axis="y")
    handles = [
        Line2D([], [], color=colour, linestyle=dash, marker=marker if held else "", label=f"seed {seed}")
        for seed, (colour, marker, dash) in looks
    ]
    if held:
        handles.append(Line2D([], [], color=GREY, linestyle=":", marker="o", label="set aside"))
    for handle in handles:
        handle.set_markersize(3.5)
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig
