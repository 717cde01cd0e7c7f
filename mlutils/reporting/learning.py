"""Learning curves: of finetuning (loss, held-out loss, reward, KL divergence), and of models trained from nothing."""

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, handle, line
from mlutils.reporting.looks import GREY

PANELS = {"loss": "loss, nats", "reward": "reward", "kl": "KL from the start, nats"}
HELD = {"linestyle": ":", "linewidth": 0.6, "markersize": 3.5}
WINDOW = 0.08  # share of the logged steps over which the thick line is the mean


def curves(table: pd.DataFrame, training: str) -> Drawing:
    """Returns learning curves: a panel each for loss, reward and KL divergence where they are known, a line a seed.

    table: seed, step, loss, held_loss, reward, kl (NaN where unknown); training: in words, what was trained on what.
    Thin lines are as logged, thick ones their running means; marks are the loss on documents set aside. Where a reward
    is known, the loss (which GRPO centres at 0) is not drawn. Raises ValueError where there is nothing to draw, or
    there are too many seeds.
    """
    table = drawing.check(table, "seed", "step", "loss", "held_loss", "reward", "kl")
    known = [name for name in PANELS if table[name].notna().any()]
    known = [name for name in known if not (name == "loss" and "reward" in known)]
    if not known:
        raise ValueError("table has neither loss nor reward, there is nothing to draw")
    looks = drawing.cycle(table["seed"].unique(), "seeds")
    held = "loss" in known and table["held_loss"].notna().any()
    fig, axes = drawing.panels(known, len(known), 2.3, 0)
    for name, axis in axes.items():
        for seed, style in looks.items():
            rows = table[table["seed"] == seed].sort_values("step")
            logged, aside = rows.dropna(subset=name), rows.dropna(subset="held_loss")
            smooth = logged[name].rolling(max(1, round(WINDOW * len(logged))), min_periods=1, center=True).mean()
            axis.plot(logged["step"], logged[name], color=style["color"], linewidth=0.4, alpha=0.45)
            axis.plot(logged["step"], smooth, **style | {"marker": ""})
            if name == "loss":
                axis.plot(aside["step"], aside["held_loss"], **style | HELD)
        if name == "loss" and table[name].min() > 0:
            drawing.log_axis(axis.yaxis)  # learning the format takes off most of the loss, learning the labels a little
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="step", ylabel=PANELS[name])
    marks = {"markersize": 3.5} if held else {"marker": ""}
    handles = [handle(f"seed {seed}", **style | marks) for seed, style in looks.items()]
    handles += [handle("set aside", **line(GREY, "o", ":"), **marks)] if held else []
    fig.legend_below(handles, 4)
    last = table.groupby("seed")[["loss", "held_loss", "reward", "kl"]].last().mean().dropna()
    values = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
    fig.alt = f"Learning curves of {training}, {len(looks)} seeds. Last values, mean over seeds: {values}"
    return fig


def held_out(table: pd.DataFrame, kinds: Mapping[str, str]) -> Drawing:
    """Returns the held-out loss against tokens read, a panel a kind of episode, a line a size of model.

    table: size, tokens, and losses in bits an answer token; kinds: its columns of losses, and their titles. Raises
    ValueError for no rows and for missing columns.
    """
    table = drawing.check(table, "size", "tokens", *kinds)
    table["millions"] = table["tokens"] / 1e6
    fig, axes = drawing.panels(kinds, len(kinds), 2.1, 0)
    for name, axis in axes.items():
        style = dict(hue="size", style="size", markers=True, palette="colorblind", legend=drawing.is_left(axis))
        sns.lineplot(table, x="millions", y=name, ax=axis, **style)
        axis.set_title(kinds[name])
        drawing.label(axis, "million tokens", "held-out bits a token")
    last = table.groupby("size", sort=False)[next(iter(kinds))].last()
    fig.alt = (
        "Held-out loss against tokens read, for each kind of episode; at the end, in bits per answer token: "
        + ", ".join(f"{size} {bits:.2f}" for size, bits in last.items())
    )
    return fig
