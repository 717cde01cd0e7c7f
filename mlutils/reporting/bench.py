"""The bench: how fast tools answer the same prompts, how far their probabilities lie apart, and what each can tell."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from mlutils import files, paths
from mlutils.reporting import drawing, tables
from mlutils.reporting.drawing import Drawing
from mlutils.reporting.looks import BLUE

TASKS = {"U": "one question a label", "B": "one question a pair", "G": "a greedy list"}
NAMES = {
    "ours": "this engine",
    "before": "this engine at 5dd0701",
    "vllm": "vLLM on cores",
    "vllm-bfloat16": "vLLM on cores, bfloat16",
    "llama.cpp": "llama.cpp, four-bit weights",
    "harness": "lm-evaluation-harness",
    "transformers": "transformers, a prompt at a time",
}
EXACT = "transformers"  # what the others are compared with
# How many times as fast this engine is to be, by tool and task, on a processor with AVX-512.
TARGETS = {"vllm": {"U": 2.5, "B": 5.0, "G": 1.2}, "before": {"U": 2.0, "B": 2.0, "G": 2.0}}
ABILITIES = ("probabilities of all labels", "at every label of a list", "hidden states", "attention")
ENGINE = ("yes", "yes", "of all layers", "yes")
GENERATION = "by own code"
CAN = {
    "ours": ENGINE,
    "before": ENGINE,
    "vllm": ("first tokens, as allowed ones", "most probable tokens", "no", "no"),
    "llama.cpp": ("first tokens, by a bias", "most probable tokens", "no", "no"),
    "harness": ("whole labels, a request each", "no", "no", "no"),
    "transformers": (GENERATION, GENERATION, "of all layers", "yes, without SDPA"),
}
KEYS = ["tool", "version", "products", "dtype", "threads", "processor"]


def summarise(records: Sequence[Mapping]) -> pd.DataFrame:
    """Returns a row a tool and task: `KEYS`, task, documents (asked a round), rate (documents a second, median over
    rounds), ratio (to transformers), apart (largest difference in probability, or the share of other answers in lists),
    moved (largest change of a probability of U when a document is asked alone; empty where prompts are asked alone),
    rounds, skipped (why a tool was not measured: then it has one row, without numbers).
    """
    rows = pd.DataFrame(
        [{**{name: record[name] for name in (*KEYS, "moved")}, **row} for record in records for row in record["rows"]]
    )
    exact = rows[rows["tool"] == EXACT].groupby("task")
    plain, truth = exact["rate"].median(), exact["answers"].first()

    def one(group: pd.DataFrame) -> dict:
        task, answers = group["task"].iloc[0], group["answers"].iloc[0]
        pairs = list(zip(answers, truth[task], strict=False))  # a slow tool is asked about the first documents only
        other = [a != b if task == "G" else np.abs(np.subtract(a, b)).max() for a, b in pairs]
        rate = group["rate"].median()
        apart = np.mean(other) if task == "G" else max(other)
        told = {"documents": group["documents"].iloc[0], "rate": rate, "ratio": rate / plain[task], "apart": apart}
        return told | {"moved": group["moved"].astype(float).max(), "rounds": len(group), "skipped": ""}

    keys = [*KEYS, "task"]
    measured = [dict(zip(keys, key, strict=True)) | one(group) for key, group in rows.groupby(keys, sort=False)]
    there = set(rows["tool"])
    left = [
        {name: record[name] for name in ("tool", "dtype", "skipped")}
        for record in records
        if record.get("skipped") and record["tool"] not in there
    ]
    return pd.DataFrame([*measured, *left]).sort_values("tool", key=lambda x: x.map(list(NAMES).index), kind="stable")


def draw(table: pd.DataFrame) -> Drawing:
    """Returns documents a second of each tool, a panel a task; table: of `summarise`."""
    table = drawing.check(table, "tool", "task", "rate").dropna(subset="rate")
    table["name"] = table["tool"].map(NAMES)
    fig, axes = drawing.panels(TASKS, len(TASKS), 1.8, 0.2, grid="x", sharey=True)
    for task, axis in axes.items():
        rows = table[table["task"] == task]
        sns.barplot(rows, x="rate", y="name", ax=axis, color=BLUE, order=list(dict.fromkeys(table["name"])))
        axis.set(title=TASKS[task], xlabel="documents a second", ylabel="")
    told = "; ".join(f"{row.name}, {TASKS[row.task]}: {row.rate:.2f}" for row in table.itertuples(index=False))
    fig.alt = f"Bars of documents a second by tool and task. {told}"
    return fig


def describe(table: pd.DataFrame) -> str:
    """Returns as Markdown how it was measured, speeds, ratios beside their targets, and what each tool can tell.

    table: of `summarise`, or as bench.csv has it.
    """
    measured = table.dropna(subset="rate")
    one = measured.groupby("tool", sort=False).first()
    found = {(row.tool, row.task): row for row in measured.itertuples(index=False)}

    def cell(tool: str, task: str) -> str:
        if (tool, task) not in found:
            return tables.MISSING
        row = found[tool, task]
        off = f"{100 * row.apart:.0f} % other" if task == "G" else _small(row.apart)
        return f"{row.rate:.3g} ({row.ratio:.3g}x; {off})"

    def gain(tool: str, task: str) -> str:
        if not {("ours", task), (tool, task)} <= set(found):
            return tables.MISSING
        return f"{found['ours', task].rate / found[tool, task].rate:.2f} (target {TARGETS[tool][task]:g})"

    tools = list(dict.fromkeys(table["tool"]))
    skipped = table.set_index("tool")["skipped"].dropna().to_dict()
    title = {tool: NAMES[tool] + (f" (skipped: {skipped[tool]})" if skipped.get(tool) else "") for tool in tools}
    speeds = pd.DataFrame(
        [{"Tool": title[tool]} | {name: cell(tool, task) for task, name in TASKS.items()} for tool in tools]
    )
    ratios = [
        {"This engine is faster than": NAMES[tool]} | {name: gain(tool, task) for task, name in TASKS.items()}
        for tool in TARGETS
    ]
    able = pd.DataFrame(
        [
            {"Tool": NAMES[tool], **dict(zip(ABILITIES, can, strict=True)), "moved by neighbours": _moved(one, tool)}
            for tool, can in CAN.items()
            if tool in tools
        ]
    )
    rounds, most = int(measured["rounds"].max()), int(measured["documents"].max())
    threads = " and ".join(f"{number:.0f}" for number in sorted(set(measured["threads"])))
    versions = "; ".join(dict.fromkeys(f"{row.version}" for row in one.itertuples()))
    head = (
        f"On a processor with {' and '.join(sorted(set(measured['processor'])))}, {threads} threads each, {most} "
        f"documents (slow tools the first ones), medians of up to {rounds} rounds in turn, the engine's products "
        f"{one.loc['ours', 'products']}. Documents a second; in parentheses against transformers, and the largest "
        "difference in probability from it, or the share of other lists. Targets are for processors with AVX-512.\n"
    )
    parts = [head, tables.markdown(speeds), tables.markdown(pd.DataFrame(ratios)), tables.markdown(able)]
    return "\n".join([*parts, f"Versions: {versions}.\n"])


def _moved(one: pd.DataFrame, tool: str) -> str:
    """Returns how much a probability changes when a document is asked alone."""
    if tool not in one.index:
        return tables.MISSING
    moved = one.loc[tool, "moved"]
    return "asked alone" if pd.isna(moved) else _small(moved)


def _small(x: float) -> str:
    return f"{x:.0e}" if x else "0"


def write(records: Sequence[Mapping]) -> pd.DataFrame:
    """Writes bench.csv, from it bench.md, and the figure into figures/bench, and returns the table."""
    folder = paths.ROOT / "figures" / "bench"
    path = files.write_csv(folder / "bench.csv", summarise(records))
    table = pd.read_csv(path)
    drawing.save(draw(table), "bench", folder)
    files.write_text(folder / "bench.md", describe(table))
    return table
