"""Times this engine beside what a user would take instead, on the same token ids, and compares their probabilities.

    python bench/bench.py run FOLDER                     all that follows: three rounds, the tools in turn
    python bench/bench.py prepare FOLDER                 token ids of all prompts, with this repository's environment
    PYTHON bench/bench.py measure FOLDER TOOL ROUND      one measurement of a tool of `tools.TOOLS`, in its environment
    python bench/bench.py summarise FOLDER               medians over rounds, agreement: figures/bench

Tasks: U one question a label, B one a pair of labels, G a greedy list of 13 tokens; documents a second, the beginning
that prompts share included in every timing. DOCUMENTS=4 in the environment asks about four documents, for a trial.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import NEW, TOOLS

ROOT = Path(__file__).resolve().parents[1]
SHOTS, MODEL, BEFORE = 10, "smollm2-135m-instruct", "5dd0701"
DOCUMENTS = int(os.environ.get("DOCUMENTS", 32))
THREADS = "2"  # of every tool
LIMIT = 600  # seconds that one measurement may take


def make_prompts(tokenizer, documents: int) -> tuple[dict, dict]:
    """Returns by task the token ids of the questions about each document, and the tokens of both answers."""
    from mlutils.parameters import check_parameters
    from mlutils.tracing import prompts, vocabulary
    from mlutils.tracing.prompting import prepare

    given = {"corpus": "vignettes", "split": "test", "sample": "uniform", "limit": documents}
    prompting = prepare(check_parameters("10_trace", {**given, "shots": SHOTS, "new_tokens": NEW}))
    asked = {
        "U": prompting.unary_prompts,
        "B": prompting.pairwise_prompts,
        "G": lambda row: [prompting.list_prompt(row)],
    }
    words = {"U": prompts.UNARY_ANSWERS, "B": prompts.PAIRWISE_ANSWERS}
    return (
        {
            task: [vocabulary.encode_prompts(tokenizer, ask(row)) for row in range(documents)]
            for task, ask in asked.items()
        },
        {task: vocabulary.answer_tokens(tokenizer, each) for task, each in words.items()},
    )


def prepare(folder: Path) -> None:
    """Writes the token ids of all prompts and answers, where the model is, and the engine as it was at `BEFORE`."""
    from transformers import AutoTokenizer

    from mlutils import sources
    from mlutils.tracing import models

    place = models.locate(MODEL)[0]
    tasks, select = make_prompts(AutoTokenizer.from_pretrained(place), DOCUMENTS)
    given = {"model": place, "gguf": str(sources.fetch(MODEL)), "tasks": tasks, "select": select}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps(given), encoding="utf-8")
    shutil.rmtree(folder / "before", ignore_errors=True)
    packed = subprocess.run(["git", "archive", BEFORE, "mlutils"], cwd=ROOT, capture_output=True)
    if packed.returncode == 0:
        (folder / "before").mkdir()
        subprocess.run(["tar", "-x", "-C", folder / "before"], input=packed.stdout, check=True)


def measure(folder: Path, name: str, number: str) -> None:
    """Writes one round of one tool: documents a second and answers by task, and what neighbours change."""
    import torch

    tool, given = TOOLS[name], json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    ask, rows = tool.start(given, tool.dtype), []
    for task, most in tool.slow.items():
        groups, started = given["tasks"][task][:most], time.perf_counter()
        answers = ask(task, groups)
        rate = len(groups) / (time.perf_counter() - started)
        rows.append({"task": task, "documents": len(groups), "rate": rate, "answers": answers})
    together, moved = rows[0]["answers"], None
    if tool.together and number == "1":
        moved = max(abs(a - b) for a, b in zip(together[0], ask("U", given["tasks"]["U"][:1])[0], strict=True))
    record = {
        "tool": name,
        "dtype": tool.dtype,
        "version": f"{tool.package} {importlib.metadata.version(tool.package)}",
        "products": given.get("products", ""),
        "threads": int(os.environ["OMP_NUM_THREADS"]) if name == "llama.cpp" else torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "moved": moved,
        "rows": rows,
    }
    (folder / f"{name}-{number}.json").write_text(json.dumps(record), encoding="utf-8")
    print(name, number, {row["task"]: round(row["rate"], 3) for row in rows}, flush=True)


def run(folder: Path) -> None:
    """Prepares, measures round after round, the tools in turn, and summarises; a tool that cannot run says why."""
    shutil.rmtree(folder, ignore_errors=True)
    prepare(folder)
    for number in range(1, 1 + max(tool.rounds for tool in TOOLS.values())):
        for name, tool in TOOLS.items():
            if number <= tool.rounds and not (folder / f"{name}-0.json").exists():
                call(folder, name, str(number))
    summarise(folder)


def call(folder: Path, name: str, number: str) -> None:
    """Measures in a process of its own; where that fails, writes the reason, with which the tool is skipped."""
    own = {"before": folder / "before"}.get(name, ROOT)
    python = Path(sys.executable) if TOOLS[name].here else ROOT / ".bench" / "bin" / "python"
    reason, log = "", folder / f"{name}-{number}.log"
    threads = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS"], THREADS)
    environment = {**os.environ, **threads, "PYTHONPATH": str(own.resolve()), "HF_HUB_OFFLINE": "1"}
    if not own.exists():
        reason = f"commit {BEFORE} is not in this clone"
    elif not python.exists():
        reason = "its environment is not there: make .bench/ready"
    else:
        command = [python, __file__, "measure", str(folder), name, number]
        with log.open("w") as out:
            try:
                done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=LIMIT)
            except subprocess.TimeoutExpired:
                reason = f"took longer than {LIMIT} seconds"
            else:
                if done.returncode:
                    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
                    reason = said[-1].strip() if done.returncode > 0 and said else f"ended by signal {-done.returncode}"
    if reason:
        record = {"tool": name, "dtype": TOOLS[name].dtype, "skipped": reason, "rows": []}
        (folder / f"{name}-0.json").write_text(json.dumps(record), encoding="utf-8")
        print(f"{name}: skipped ({reason}; {log})", flush=True)
    else:
        print(log.read_text(errors="replace").strip().splitlines()[-1], flush=True)


def summarise(folder: Path) -> None:
    """Writes figures/bench: medians over rounds, ratios to transformers, and how far answers lie from its."""
    from mlutils.reporting import bench

    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-[0-9].json"))]
    told = bench.write(records)[["tool", "dtype", "threads", "task", "rate", "ratio", "apart", "moved", "rounds"]]
    print(told.to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    command, place, *rest = sys.argv[1:]
    {"run": run, "prepare": prepare, "measure": measure, "summarise": summarise}[command](Path(place), *rest)
