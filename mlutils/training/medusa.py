"""Medusa heads (Medusa-1): behind a model that stays as it is, each learns to foresee a later token (Fig. 16).

A head begins as the model's own reading of the next token: its residual block adds nothing yet, its final layer is a
copy of the model's. It learns from training prompts and their answers what stands one token further on, or two.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from mlutils import metrics
from mlutils.corpora import Corpus
from mlutils.tracing import medusa, prompts
from mlutils.tracing.models import Model
from mlutils.training.adaptation import LOSSES, FinetuningError, Job, train_on
from mlutils.training.sft import TokenMean, encode_held, encode_pairs, join, keep_fitting, write_passes

LAYERS = 1  # residual blocks of a head


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How heads are trained."""

    heads: int = 3
    rate: float = 2e-4  # constant
    epochs: int = 1  # passes over the documents
    batch: int = 8
    loss_on: str = "all"  # answer | all; the tokens that are foreseen
    train_shots: int = 0  # demonstrations in training prompts, drawn anew for each
    evaluations: int = 10  # of the loss on documents set aside, spread over the run
    seed: int = 0

    layers: ClassVar[int] = LAYERS

    def __post_init__(self):
        if self.loss_on not in LOSSES:
            raise FinetuningError(f"loss_on={self.loss_on!r} is not known: take one of {', '.join(LOSSES)}")
        for name in ("heads", "epochs", "batch", "evaluations"):
            if getattr(self, name) < 1:
                raise FinetuningError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.train_shots < 0 or self.rate <= 0:
            raise FinetuningError(f"train_shots={self.train_shots} must be 0 or more, rate={self.rate} above 0")


class Heads(nn.Sequential):
    """Heads as a Trainer takes them: their losses on token sequences, behind a network that is none of their parts."""

    def __init__(self, network, count: int):
        output = network.get_output_embeddings().weight
        super().__init__(*medusa.build_heads(count, LAYERS, output.shape[1], output.shape[0]))
        self.told = {"medusa_num_heads": count, "medusa_num_layers": LAYERS}
        self.frozen = [network]  # in a list: neither trained nor saved
        for *blocks, final in self:
            final.weight = nn.Parameter(output.detach().float().clone())
            for block in blocks:
                nn.init.zeros_(block.linear.weight)
                nn.init.zeros_(block.linear.bias)
        self.to(output.device)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the `loss` of sequences (B, N), padded behind their ends: nats a token, the mean over heads' tokens.

        labels: (B, N), -100 where a token is not foreseen.
        """
        losses = [cross_entropy(logits, targets, reduction="sum") for logits, targets in self.read(input_ids, labels)]
        return {"loss": sum(losses) / max(1, count_foreseen(labels, len(self)))}

    def read(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields for each head its logits (M, V) where a token is to be foreseen, and these tokens (M,)."""
        with torch.no_grad():
            states = self.frozen[0].get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        for number, head in enumerate(self, start=1):
            targets = labels[:, number + 1 :]
            kept = targets != -100
            yield head(states[:, : targets.shape[1]][kept].float()).float(), targets[kept]

    def unload(self) -> None:
        """Does nothing: the network behind was never changed."""


def count_foreseen(labels: torch.Tensor, heads: int) -> int:
    """Returns how many tokens of sequences (B, N) heads foresee, all heads together."""
    return sum(int((labels[:, number + 1 :] != -100).sum()) for number in range(1, heads + 1))


def collate(rows: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Returns a batch, padded behind the ends: `input_ids` and `labels` (B, N)."""
    padding = {"input_ids": 0, "labels": -100}
    return {
        name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)
        for name, value in padding.items()
    }


class HeadTrainer(TokenMean, Trainer):
    """A Trainer of heads, whose loss on documents set aside is the mean over the tokens that all heads foresee."""

    def count(self, labels: torch.Tensor) -> int:
        """Returns how many tokens of a batch (B, N) heads foresee, all heads together."""
        return count_foreseen(labels, len(self.model))


def tune(
    model: Model,
    template: prompts.Template,
    training: Corpus,
    held: Corpus,
    recipe: Recipe,
    name: str,
    folder: Path | str,
) -> pd.DataFrame:
    """Trains heads called `name`, and returns their curve (`adaptation.CURVE`; losses in nats a token, all heads').

    As `sft.tune`, with heads in the place of an adapter.
    """
    asked, answers = write_passes(template, training, recipe)
    job = Job("medusa", name, model, training, recipe, join(asked, answers), Path(folder))
    if (curve := job.finished()) is not None:
        return curve
    examples = keep_fitting(encode_pairs(model, asked, answers, recipe.loss_on), training.name)
    aside = encode_held(model, template, training, held, recipe)

    def build(settings: dict, ordered: list[dict]) -> HeadTrainer:
        trainer = HeadTrainer(
            Heads(model.network, recipe.heads),
            TrainingArguments(**settings),
            data_collator=collate,
            train_dataset=ordered,
            eval_dataset=aside,
        )
        trainer.tokens_an_example = trainer.count(collate(aside)["labels"]) / len(aside)
        return trainer

    return train_on(job, examples, build)


@torch.inference_mode()
def score(model: Model, examples: Sequence[dict]) -> pd.DataFrame:
    """Returns how often the first guess of each head is the token that comes, on documents set aside.

    model: loaded by the name of its heads. Columns: head (0 is the model's own), top1 and its 95 % interval over
    documents (low, high), n tokens. A document counts by its tokens' mean; all heads foresee the same tokens.
    """
    heads = [model.network.get_output_embeddings(), *medusa.load_heads(model)]
    hits, tokens = [[] for _ in heads], 0
    for example in examples:
        batch = {name: values.to(model.device) for name, values in collate([example]).items()}
        states = model.network.get_decoder()(input_ids=batch["input_ids"], use_cache=False).last_hidden_state[0]
        kept = (batch["labels"][0] != -100).nonzero()[:, 0]
        kept = kept[kept >= len(heads)]
        tokens += len(kept)
        for number, head in enumerate(heads if len(kept) else []):
            said = head(states[kept - number - 1]).argmax(-1)
            hits[number].append(float((said == batch["input_ids"][0][kept]).double().mean()))
    rows = [[number, *metrics.bootstrap(np.array(each)), tokens] for number, each in enumerate(hits)]
    return pd.DataFrame(rows, columns=["head", "top1", "low", "high", "n"])
