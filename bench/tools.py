"""The tools of the bench, each behind one function: given groups of token sequences, its answers.

Imported in the environment of whichever tool is asked, so nothing of `mlutils` here but in the engine's own.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

NEW = 13  # tokens of a greedy list
Ask = Callable[[str, list], list]  # a task and groups of sequences; answers by group


def start_ours(given: dict, dtype: str) -> Ask:
    """Returns how this engine is asked, as it is now or as an older commit has it (whose products are torch's)."""
    from mlutils.tracing import models
    from mlutils.tracing.engine import Draft
    from mlutils.tracing.engines import start_engine

    model = models.load(given["model"], "cpu", dtype)
    try:
        from mlutils.tracing import products

        given["products"] = model.products = products.choose(model.network)
    except ImportError:
        given["products"] = "plain"
    start_engine(model).read([[[5, 6, 7]]], [0])  # the first pass is slower

    def ask(task: str, groups: list) -> list:
        engine = start_engine(model)
        if task == "G":
            prompts = [sequence for group in groups for sequence in group]
            return [each.tokens for each in engine.write(prompts, [0], lambda tokens: False, NEW, Draft())]
        return [share(logits) for logits, _ in engine.read(groups, given["select"][task])]

    return ask


def start_transformers(given: dict, dtype: str) -> Ask:
    """Returns how transformers is asked, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(given["model"], dtype=getattr(torch, dtype)).eval()
    arguments = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)

    def last(sequence: list) -> torch.Tensor:
        return network(torch.tensor([sequence]), logits_to_keep=1).logits[0, -1].float()

    @torch.inference_mode()
    def ask(task: str, groups: list) -> list:
        if task == "G":
            outs = [network.generate(input_ids=torch.tensor(group), **arguments)[0] for group in groups]
            return [out[len(group[0]) :].tolist() for out, group in zip(outs, groups, strict=True)]
        select = given["select"][task]
        return [share(torch.stack([last(sequence)[select] for sequence in group]).numpy()) for group in groups]

    return ask


def start_harness(given: dict, dtype: str) -> Ask:
    """Returns how lm-evaluation-harness is asked: a log-likelihood of both answers behind each prompt, batches of 1.

    Its greedy answers are those of transformers' `generate`, so lists are not asked.
    """
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=given["model"], dtype=dtype, device="cpu", batch_size=1)

    def ask(task: str, groups: list) -> list:
        select = given["select"][task]
        asked = [(("", ""), sequence, [answer]) for group in groups for sequence in group for answer in select]
        found = iter(model._loglikelihood_tokens(asked, disable_tqdm=True))
        return [[logistic(next(found)[0] - next(found)[0]) for _ in group] for group in groups]

    return ask


def start_vllm(given: dict, dtype: str) -> Ask:
    """Returns how vLLM on cores is asked, with prefix caching."""
    cores = sorted(os.sched_getaffinity(0))[: int(os.environ["OMP_NUM_THREADS"])]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # all in this process: its start is not timed
    from vllm import LLM, SamplingParams

    model = LLM(
        given["model"], dtype=dtype, enable_prefix_caching=True, logprobs_mode="processed_logprobs", seed=0,
        max_model_len=2048, enforce_eager=True, gpu_memory_utilization=0.5,
    )  # fmt: skip

    def generate(groups: list, plan: SamplingParams) -> list:
        prompts = [{"prompt_token_ids": sequence} for group in groups for sequence in group]
        return [each.outputs[0] for each in model.generate(prompts, plan, use_tqdm=False)]

    generate([[[5, 6, 7]]], SamplingParams(max_tokens=1))

    def ask(task: str, groups: list) -> list:
        model.reset_prefix_cache()
        if task == "G":
            plan = SamplingParams(temperature=0, max_tokens=NEW, min_tokens=NEW, detokenize=False)
            return [list(out.token_ids) for out in generate(groups, plan)]
        first, second = given["select"][task]
        plan = SamplingParams(
            temperature=0, max_tokens=1, logprobs=2, allowed_token_ids=[first, second], detokenize=False
        )
        outs = iter(generate(groups, plan))
        return [[math.exp(next(outs).logprobs[0][first].logprob) for _ in group] for group in groups]

    return ask


def start_llama_cpp(given: dict, dtype: str) -> Ask:
    """Returns how llama.cpp is asked, on the GGUF file that the other tools' weights were unpacked from.

    It has one slot, which keeps what the last prompt began with. A bias lifts both answers above all other tokens.
    """
    import xllamacpp

    plan = xllamacpp.CommonParams()
    plan.model.path = given["gguf"]
    plan.n_ctx, plan.n_parallel, plan.cache_ram_mib, plan.verbosity = 2048, 1, 0, 1
    plan.cpuparams.n_threads = plan.cpuparams_batch.n_threads = int(os.environ["OMP_NUM_THREADS"])
    server = xllamacpp.Server(plan)

    def complete(sequence: list, **wanted) -> list:
        arguments = {"cache_prompt": True, "ignore_eos": True, "seed": 0, **wanted}
        return server.handle_completions({"prompt": sequence, **arguments})["choices"][0]["logprobs"]["content"]

    def ask(task: str, groups: list) -> list:
        complete([5, 6, 7], n_predict=1, logprobs=1)  # forgets what was asked before
        if task == "G":
            outs = [complete(group[0], n_predict=NEW, temperature=0, logprobs=1) for group in groups]
            return [[token["id"] for token in out] for out in outs]
        first, second = given["select"][task]
        wanted = dict(n_predict=1, logprobs=2, post_sampling_probs=True, samplers=["temperature"], temperature=1.0)
        wanted["logit_bias"] = [[first, 100.0], [second, 100.0]]
        outs = [[complete(sequence, **wanted)[0]["top_probs"] for sequence in group] for group in groups]
        return [[sum(each["prob"] for each in out if each["id"] == first) for out in group] for group in outs]

    return ask


def share(logits) -> list[float]:
    """Returns the probability of the first of two answers, given logits (N, 2)."""
    return [logistic(float(first) - float(second)) for first, second in logits]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@dataclass(frozen=True)
class Tool:
    """How a tool is started, in which environment, and how often it is asked.

    slow: documents that it is asked about at most, by task; a task that is not there is not asked.
    """

    start: Callable[[dict, str], Ask]
    package: str
    here: bool = True  # in this repository's environment, else in `.bench`
    dtype: str = "float32"
    rounds: int = 3
    together: bool = True  # prompts of several documents at once, else each alone
    slow: dict = field(default_factory=lambda: dict(U=1000, B=1000, G=1000))


PROMPTS = {"U": 2, "B": 1, "G": 4}  # what takes a prompt at a time is asked about few documents
TOOLS = {
    "ours": Tool(start_ours, "torch"),
    "before": Tool(start_ours, "torch"),
    "vllm": Tool(start_vllm, "vllm-cpu", here=False),
    "llama.cpp": Tool(start_llama_cpp, "xllamacpp", here=False, dtype="Q4_1", slow={"U": 8, "B": 4, "G": 8}),
    "transformers": Tool(start_transformers, "transformers", rounds=1, together=False, slow=PROMPTS),
    "harness": Tool(start_harness, "lm-eval", here=False, rounds=1, together=False, slow={"U": 1, "B": 1}),
    "vllm-bfloat16": Tool(
        start_vllm, "vllm-cpu", here=False, dtype="bfloat16", rounds=1, slow={"U": 8, "B": 4, "G": 8}
    ),
}
