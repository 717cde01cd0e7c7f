"""The bench: how fast tools answer the same prompts, and how far their probabilities lie apart."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from mlutils import files, paths
from mlutils.reporting import drawing, tables
from mlutils.reporting.drawing import Drawing
from mlutils.reporting.looks import BLUE

TASKS = {"U": "one question a label", "B": "one question a pair", "G": "a greedy list"}
NAMES = {"transformers": "transformers, a prompt at a time", "vllm": "vLLM on cores", "ours": "this engine"}
EXACT = ("transformers", "float32")  # what the others are compared with


def summarise(records: Sequence[Mapping]) -> pd.DataFrame:
    """Returns a row a tool, dtype and task: tool, version, products, dtype, task, rate (documents a second, median over
    rounds), ratio (to transformers), apart (largest difference in probability, or the share of other answers in lists),
    rounds.
    """
    rows = pd.DataFrame(
        [
            {**{name: record[name] for name in ("tool", "version", "products", "dtype")}, **row}
            for record in records
            for row in record["rows"]
        ]
    )
    exact = rows[(rows["tool"] == EXACT[0]) & (rows["dtype"] == EXACT[1])].groupby("task")
    plain, truth = exact["rate"].median(), exact["answers"].first()

    def one(group: pd.DataFrame) -> dict:
        task, answers = group["task"].iloc[0], group["answers"].iloc[0]
        pairs = list(zip(answers, truth[task], strict=False))  # a slow tool is asked about the first documents only
        other = [a != b if task == "G" else np.abs(np.subtract(a, b)).max() for a, b in pairs]
        rate = group["rate"].median()
        apart = np.mean(other) if task == "G" else max(other)
        return {"rate": rate, "ratio": rate / plain[task], "apart": apart, "rounds": len(group)}

    keys = ["tool", "version", "products", "dtype", "task"]
    return pd.DataFrame(
        [dict(zip(keys, key, strict=True)) | one(group) for key, group in rows.groupby(keys, sort=False)]
    )


def draw(table: pd.DataFrame) -> Drawing:
    """Returns documents a second of each tool, a panel a task; table: of `summarise`."""
    table = drawing.check(table, "tool", "dtype", "task", "rate")
    table["name"] = [f"{NAMES[tool]}, {dtype}" for tool, dtype in zip(table["tool"], table["dtype"], strict=True)]
    fig, axes = drawing.panels(TASKS, len(TASKS), 1.6, 0.2, grid="x", sharey=True)
    for task, axis in axes.items():
        rows = table[table["task"] == task]
        sns.barplot(rows, x="rate", y="name", ax=axis, color=BLUE, order=list(dict.fromkeys(table["name"])))
        axis.set(title=TASKS[task], xlabel="documents a second", ylabel="")
    told = "; ".join(
        f"{row.name}, {TASKS[row.task]}: {row.rate:.2f}"
        for row in table[["name", "task", "rate"]].itertuples(index=False, name="Row")
    )
    fig.alt = f"Bars of documents a second by tool and task. {told}"
    return fig


def write(records: Sequence[Mapping]) -> pd.DataFrame:
    """Writes bench.csv, bench.md and the figure into figures/bench, and returns the small table."""
    folder, table = paths.ROOT / "figures" / "bench", summarise(records)
    order = list(NAMES)
    table = table.sort_values(["tool", "dtype"], key=lambda x: x.map(lambda v: order.index(v) if v in order else v))
    files.write_csv(folder / "bench.csv", table)
    drawing.save(draw(table), "bench", folder)
    cell = table.assign(
        cell=[f"{row.rate:.2f} ({row.ratio:.0f}x, {row.apart:.0e})" for row in table.itertuples(index=False)]
    )
    small = cell.pivot_table(index=["tool", "dtype"], columns="task", values="cell", aggfunc="first", sort=False)
    small = small[[task for task in TASKS if task in small]].rename(columns=TASKS).reset_index()
    small["tool"] = small["tool"].map(NAMES)
    files.write_text(folder / "bench.md", tables.markdown(small))
    return small
