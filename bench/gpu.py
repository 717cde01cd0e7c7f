"""Measures the engine on a GPU, in one run of at most eight minutes: is it exact there, and how fast is it.

    python bench/gpu.py figures/bench/gpu.csv
    python bench/gpu.py FILE --device cpu --tiny           the same on cores, with tiny networks: tests the script

First the logits of unary questions against plain transformers, of a miniature (nothing is downloaded). Then all views
on a random Llama of 8 B shape in bfloat16, against transformers in batches of prompts. Each row is written as it is
measured, so that a run that is cut leaves what it had.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tools import NEW, share
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bench import make_prompts
from mlutils import files
from mlutils.tracing import head, models
from mlutils.tracing.engine import Draft
from mlutils.tracing.engines import start_engine

EXACT = "miniature-m"
SHAPE = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, vocab_size=128256)
SHAPE |= dict(num_attention_heads=32, num_key_value_heads=8)
TINY = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
BATCH = 64  # prompts that transformers is asked at once
LIMIT = 420  # seconds after which nothing more is begun


class Sheet:
    """The rows that were measured, in a file from the first one on."""

    def __init__(self, path: Path, device: str):
        gpu = device.startswith("cuda")
        self.path, self.rows, self.started = path, [], time.perf_counter()
        self.name = torch.cuda.get_device_name(device) if gpu else f"cores, {torch.backends.cpu.get_cpu_capability()}"

    def add(self, **row) -> None:
        """Writes a row behind those that are there."""
        self.rows.append({"device": self.name, "torch": torch.__version__, **row})
        files.write_csv(self.path, pd.DataFrame(self.rows))
        print({name: round(x, 6) if isinstance(x, float) else x for name, x in row.items()}, flush=True)

    def late(self) -> bool:
        """Returns whether nothing more is to be begun."""
        return time.perf_counter() - self.started > LIMIT


def compare(sheet: Sheet, device: str, documents: int) -> None:
    """Adds how far logits of unary questions lie from those of plain transformers in float32, by tool and type."""
    place = models.locate(EXACT)[0]
    tasks, select = make_prompts(AutoTokenizer.from_pretrained(place), documents)
    truth = None
    for dtype in ("float32", "bfloat16"):
        plain = AutoModelForCausalLM.from_pretrained(place, dtype=getattr(torch, dtype)).to(device).eval()
        engine = start_engine(models.load(EXACT, device, dtype))
        found = {
            "transformers": ask_plain(plain, tasks["U"], select["U"], 1),
            "ours": np.concatenate([logits for logits, _ in engine.read(tasks["U"], select["U"])]),
        }
        truth = found["transformers"] if truth is None else truth
        for tool, logits in found.items():
            apart = {
                "apart_float32": float(abs(logits - truth).max()),
                "apart": float(abs(logits - found["transformers"]).max()),
            }
            sheet.add(part="exact", model=EXACT, tool=tool, dtype=dtype, task="U", documents=documents, **apart)


@torch.inference_mode()
def ask_plain(network, groups: list, select: list, batch: int) -> np.ndarray:
    """Returns logits (questions, 2) of plain transformers, whose prompts are padded in front in each batch."""
    prompts = [sequence for group in groups for sequence in group]
    parts = []
    for start in range(0, len(prompts), batch):
        out = network(**pad(prompts[start : start + batch], network.device), logits_to_keep=1, use_cache=False)
        parts.append(out.logits[:, -1, select].double().cpu().numpy())
    return np.concatenate(parts)


def pad(prompts: list, device: torch.device) -> dict:
    """Returns tokens (N, longest), their mask and positions, padded in front."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(each)) + each for each in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=device)
    return {"input_ids": tokens, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def build(shape: dict, tokenizer, device: str) -> models.Model:
    """Returns a random Llama in bfloat16, made where it is asked; its numbers are random, its work is real."""
    config = LlamaConfig(
        **{"vocab_size": len(tokenizer)} | shape, max_position_embeddings=8192, dtype=torch.bfloat16,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            network = LlamaForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)
    return models.Model("random Llama", network, tokenizer, "seed-0", packed=True)


def time_views(sheet: Sheet, device: str, shape: dict, ours: int, plain: int, batch: int) -> None:
    """Adds documents a second and memory of each view by transformers in batches, then by the engine."""
    tokenizer = AutoTokenizer.from_pretrained(models.locate(EXACT)[0])
    model = build(shape, tokenizer, device)
    size = f"random Llama, {sum(each.numel() for each in model.network.parameters()) / 1e9:.3g} B"
    tasks, select = make_prompts(tokenizer, ours)
    answers = {}
    for tool, documents in (("transformers", plain), ("ours", ours)):
        if tool == "ours":
            head.use_float32(model.network)  # as `models.load` does; transformers keeps its own head

        def ask(task: str, groups: list, tool=tool) -> list:
            if tool == "transformers":
                return ask_in_batches(model.network, task, groups, select, batch)
            engine = start_engine(model)
            if task == "G":
                prompts = [sequence for group in groups for sequence in group]
                return [each.tokens for each in engine.write(prompts, [0], lambda tokens: False, NEW, Draft())]
            return [share(logits) for logits, _ in engine.read(groups, select[task])]

        ask("G", tasks["G"][:2])  # the first pass is slower
        for task, groups in tasks.items():
            if sheet.late():
                print(f"{tool}, {task}: left out, {LIMIT} seconds are over", flush=True)
                continue
            watch(device)
            started = time.perf_counter()
            found = ask(task, groups[:documents])
            seconds, memory = time.perf_counter() - started, watch(device)
            told = dict(documents=len(found), rate=len(found) / seconds, seconds=seconds, memory_gb=memory)
            truth = answers.setdefault(task, found)
            pairs = list(zip(found, truth, strict=False))
            off = [a != b if task == "G" else np.abs(np.subtract(a, b)).max() for a, b in pairs]
            told["apart"] = float(np.mean(off) if task == "G" else max(off))
            sheet.add(part="speed", model=size, tool=tool, dtype="bfloat16", task=task, **told)


@torch.inference_mode()
def ask_in_batches(network, task: str, groups: list, select: dict, batch: int) -> list:
    """Returns the answers of plain transformers by document: probabilities of the first answer, or 13 tokens."""
    if task != "G":
        logits = ask_plain(network, groups, select[task], batch)
        return [share(part) for part in np.split(logits, np.cumsum([len(group) for group in groups])[:-1])]
    prompts, answers = [sequence for group in groups for sequence in group], []
    for start in range(0, len(prompts), batch):
        given = pad(prompts[start : start + batch], network.device)
        del given["position_ids"]  # `generate` counts them from the mask
        out = network.generate(**given, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)
        answers += out[:, given["input_ids"].shape[1] :].tolist()
    return answers


def watch(device: str) -> float:
    """Returns the most memory in use since the last call (on cores: since the process began), in GB."""
    if not device.startswith("cuda"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    most = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the CSV that is written")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and few documents")
    wanted = parser.parse_args()
    if wanted.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no GPU is here: --device cpu --tiny tests this script on cores")
    wanted.file.parent.mkdir(parents=True, exist_ok=True)
    sheet = Sheet(wanted.file, wanted.device)
    compare(sheet, wanted.device, 2 if wanted.tiny else 32)
    sizes = (TINY, 3, 2, 8) if wanted.tiny else (SHAPE, 256, 32, BATCH)
    time_views(sheet, wanted.device, *sizes)


if __name__ == "__main__":
    main()
