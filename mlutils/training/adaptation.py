"""What all finetuning with adapters shares: a recipe, one order of examples, checkpoints, the loop, and a record.

PEFT and the Trainers of transformers and TRL do the training. The order of examples is fixed before it begins, so that
a resumed run follows it again; a loss that is no number stops a run.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from mlutils.corpora import Corpus, text_marks
from mlutils.files import read_json, write_csv, write_json
from mlutils.tracing import adapters
from mlutils.tracing.models import Model
from mlutils.training import checkpoints

CURVE = ["seed", "step", "tokens", "loss", "held_loss", "reward", "kl", "seconds"]
LAYERS, LOSSES = ("all-linear", "default"), ("answer", "all")


class FinetuningError(ValueError):
    """Raised where a model cannot be finetuned as asked: what is wrong, and what to do."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an adapter is trained; the defaults are the paper's, which does not name layers, batch and loss."""

    rank: int = 64
    alpha: int = 16
    dropout: float = 0.1
    layers: str = "all-linear"  # all-linear (but the head) | default (PEFT's: queries and values in a Llama)
    rate: float = 2e-4  # constant
    epochs: int = 3  # passes over the documents
    batch: int = 16
    loss_on: str = "answer"  # answer | all; the tokens of SFT that count
    train_shots: int = 0  # demonstrations in training prompts, drawn anew for each; 0 as in the paper
    evaluations: int = 10  # of the loss on documents set aside, spread over the run
    seed: int = 0

    def __post_init__(self):
        check_recipe(self, {"layers": LAYERS, "loss_on": LOSSES}, ("rank", "alpha", "epochs", "batch", "evaluations"))
        if self.train_shots < 0 or not 0 <= self.dropout < 1 or self.rate <= 0:
            raise FinetuningError(
                f"train_shots={self.train_shots} must be 0 or more, dropout={self.dropout} in [0, 1), "
                f"rate={self.rate} above 0"
            )


def check_recipe(recipe, choices: Mapping[str, Sequence[str]], counts: Sequence[str]) -> None:
    """Raises FinetuningError for a field that is none of its choices, and for one of `counts` below 1."""
    for name, allowed in choices.items():
        if getattr(recipe, name) not in allowed:
            raise FinetuningError(f"{name}={getattr(recipe, name)!r} is not known: take one of {', '.join(allowed)}")
    for name in counts:
        if getattr(recipe, name) < 1:
            raise FinetuningError(f"{name}={getattr(recipe, name)} must be 1 or more")


def lora(recipe) -> LoraConfig:
    """Returns PEFT's configuration of the adapter that a recipe asks for."""
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear" if recipe.layers == "all-linear" else None,
        task_type="CAUSAL_LM",
    )


def arrange(lengths: Sequence[int], documents: int, batch: int, seed: int) -> list[int]:
    """Returns the order of examples: pass after pass, shuffled, examples of a batch of similar length.

    lengths: of all passes, `documents` a pass. Only the last batch may be short. The same for the same seed.
    """
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    order = np.concatenate(
        [at + rng.permutation(min(documents, len(lengths) - at)) for at in _starts(lengths, documents)]
    )
    arranged = []
    for at in _starts(order, 32 * batch):
        near = order[at : at + 32 * batch]
        near = near[np.argsort(lengths[near], kind="stable")]
        batches = [near[i : i + batch] for i in _starts(near, batch)]
        full, short = ([b for b in batches if (len(b) == batch) == wanted] for wanted in (True, False))
        arranged += [*(full[i] for i in rng.permutation(len(full))), *short]
    return np.concatenate(arranged).tolist()


def _starts(values, size):
    return range(0, len(values), size)


class Watch(TrainerCallback):
    """Notes the seconds of each log, resumed runs included, and stops a run whose loss is no number."""

    def __init__(self):
        self.started, self.before = time.perf_counter(), 0.0

    def on_train_begin(self, args, state, control, **_):
        self.started = time.perf_counter()
        self.before = max((row.get("seconds", 0.0) for row in state.log_history), default=0.0)

    def on_log(self, args, state, control, logs=None, **_):
        state.log_history[-1]["seconds"] = round(self.before + time.perf_counter() - self.started, 2)
        for name in ("loss", "eval_loss", "grad_norm"):
            if name in logs and not np.isfinite(logs[name]):
                raise FinetuningError(
                    f"training diverged: {name} is {logs[name]} at step {state.global_step}; take a lower rate (it is "
                    f"{args.learning_rate}), and remove {args.output_dir}"
                )


@dataclasses.dataclass(frozen=True)
class Job:
    """An adapter to be trained: what decides it, where it goes, and whether it is there already."""

    method: str
    name: str  # the adapter's full name
    model: Model
    training: Corpus
    recipe: object  # `Recipe`, or another with a rate, a seed and what `lora` reads
    texts: Sequence[str]  # all that is trained on
    folder: Path  # of the run

    @cached_property
    def key(self) -> str:
        """Returns a hash of what decides the training."""
        decides = [self.method, self.name, self.model.revision, dataclasses.asdict(self.recipe), *self.texts]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()

    @property
    def made(self) -> Path:
        """Returns the adapter's folder."""
        return self.folder / "adapters" / adapters.folder_name(self.name)

    @property
    def checkpoints(self) -> Path:
        """Returns the folder of checkpoints, which is there until the adapter is."""
        return self.folder / "checkpoints" / adapters.folder_name(self.name)

    def finished(self) -> pd.DataFrame | None:
        """Returns the curve of an adapter that is there, None where it is still to be trained.

        Raises FinetuningError where it is of another recipe or of other documents.
        """
        if not (self.made / "curve.csv").exists():
            return None
        checkpoints.refuse_other(adapters.read_record(self.made)["key"], self.key, self.made, FinetuningError)
        return pd.read_csv(self.made / "curve.csv")

    def last_checkpoint(self) -> str | None:
        """Returns the last whole checkpoint, None where there is none; raises FinetuningError for another job's."""
        noted = self.checkpoints / "key.json"
        if noted.exists():
            found = read_json(noted, FinetuningError, f"delete {self.checkpoints} to train from the beginning")
            checkpoints.refuse_other(found.get("key"), self.key, self.checkpoints, FinetuningError)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(noted, {"key": self.key})
        whole = self.checkpoints.glob("checkpoint-*/trainer_state.json")  # written last
        numbers = sorted(int(file.parent.name.rpartition("-")[2]) for file in whole)
        return str(self.checkpoints / f"checkpoint-{numbers[-1]}") if numbers else None

    def save(self, network) -> None:
        """Writes the adapter of a PEFT model with its record."""
        learnt = adapters.unite([self.model.trained_on, {self.training.name: self.training.documents["id"]}])
        texts = adapters.unite([self.model.trained_texts, {self.training.name: text_marks(self.training)}])
        record = {
            "name": self.name,
            "base": self.model.name,
            "base_revision": self.model.revision,
            "method": self.method,
            "seed": self.recipe.seed,
            "recipe": dataclasses.asdict(self.recipe),
            "corpus": self.training.name,
            "documents": len(self.training),
            "texts": hashlib.sha256("\0".join(self.texts).encode()).hexdigest(),
            "key": self.key,
            "versions": {package: metadata.version(package) for package in ("torch", "transformers", "peft", "trl")},
            "trained_on": {corpus: sorted(ids) for corpus, ids in learnt.items()},
            "trained_texts": {corpus: sorted(marks) for corpus, marks in texts.items()},
        }
        adapters.save(network, self.made, record)

    def close(self, curve: pd.DataFrame) -> pd.DataFrame:
        """Writes the curve beside the saved adapter, what it began and ended with into the record, and returns it."""
        curve = curve.assign(seed=self.recipe.seed)
        curve = curve.reindex(columns=[*CURVE, *curve.columns.difference(CURVE, sort=False)])
        ends = {name: curve[name].dropna() for name in ("loss", "held_loss", "reward", "kl")}
        record = adapters.read_record(self.made) | {
            "steps": int(curve["step"].max()),
            "tokens": int(curve["tokens"].max()),
            "seconds": float(curve["seconds"].max()),
            "curve": {name: [float(each.iloc[0]), float(each.iloc[-1])] for name, each in ends.items() if len(each)},
        }
        write_json(self.made / "run.json", record)
        write_csv(self.made / "curve.csv", curve)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return curve


def arguments(job: Job) -> dict:
    """Returns the settings of a Trainer of transformers or TRL that all methods share."""
    on_cpu = job.model.device.type == "cpu"
    return dict(
        output_dir=str(job.checkpoints),
        num_train_epochs=1,  # all passes stand one behind the other
        learning_rate=job.recipe.rate,
        lr_scheduler_type="constant",
        logging_nan_inf_filter=False,  # would show a loss that is no number as 0
        save_total_limit=2,
        use_cpu=on_cpu,
        bf16=not on_cpu and job.model.dtype == torch.bfloat16,
        dataloader_pin_memory=not on_cpu,
        report_to="none",
        disable_tqdm=True,
        seed=job.recipe.seed,
    )


def train(job: Job, build: Callable, read: Callable, watch: Watch) -> pd.DataFrame:
    """Returns the curve of an adapter that a Trainer of transformers or TRL trains, resumed from its last checkpoint.

    build: returns the Trainer. read: returns its log as a curve. The model's network is as it was before when this
    returns.
    """
    last = job.last_checkpoint()
    trainer = build()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch)
    try:
        trainer.train(resume_from_checkpoint=last)
        job.save(trainer.model)
    finally:
        trainer.model.unload()  # takes the adapter out of the model's own network
        job.model.network.eval().requires_grad_(False)
    return job.close(read(trainer.state.log_history))


def train_on(job: Job, examples: list[dict], build: Callable) -> pd.DataFrame:
    """Returns the curve (columns CURVE) of an adapter that learns from examples with `input_ids`, of all passes.

    build: returns the Trainer, given its settings and the examples in their order.
    """
    recipe, sizes = job.recipe, [len(each["input_ids"]) for each in examples]
    order = arrange(sizes, max(1, len(examples) // recipe.epochs), recipe.batch, recipe.seed)
    steps = -(-len(order) // recipe.batch)
    every = -(-steps // recipe.evaluations)
    settings = arguments(job) | dict(
        per_device_train_batch_size=recipe.batch,
        per_device_eval_batch_size=recipe.batch,
        train_sampling_strategy="sequential",
        optim="adamw_torch",
        logging_steps=max(1, steps // 100),
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        save_steps=every,
        activation_checkpointing=job.model.device.type != "cpu",
    )
    seen = np.cumsum([0, *(sizes[i] for i in order)])
    tokens = [*seen[:: recipe.batch].tolist(), int(seen[-1])]
    return train(
        job, lambda: build(settings, [examples[i] for i in order]), lambda history: read_curve(history, tokens), Watch()
    )


def read_curve(history: Sequence[dict], tokens: Sequence[int]) -> pd.DataFrame:
    """Returns a Trainer's log as a curve, a row a step that was logged; missing values are NaN.

    tokens: that went through the model up to each step, step 0 first.
    """
    rows: dict[int, dict] = {}
    columns = {"loss": "loss", "eval_loss": "held_loss", "seconds": "seconds"}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            row = rows.setdefault(entry["step"], {"step": entry["step"], "tokens": tokens[entry["step"]]})
            row |= {ours: entry[theirs] for theirs, ours in columns.items() if theirs in entry}
    return pd.DataFrame([rows[step] for step in sorted(rows)], columns=["step", "tokens", *columns.values()])
