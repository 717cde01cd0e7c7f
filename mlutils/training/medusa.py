"""Medusa heads (Medusa-1): behind a model that stays as it is, each learns to foresee a later token (Fig. 16).

A head begins as the model's own reading of the next token: its residual block adds nothing yet, its final layer is a
copy of the model's. It learns from training prompts and their answers what stands one token further on, or two.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

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
from mlutils.training.adaptation import LOSSES, FinetuningError, check_recipe
from mlutils.training.sft import TokenMean, tune_on_lists

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

    def __post_init__(self):
        check_recipe(self, {"loss_on": LOSSES}, ("heads", "epochs", "batch", "evaluations"))
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
        with torch.no_grad():
            states = self.frozen[0].get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        loss = 0.0
        for number, head in enumerate(self, start=1):
            targets = labels[:, number + 1 :]
            kept = targets != -100
            logits = head(states[:, : targets.shape[1]][kept].float()).float()
            loss = loss + cross_entropy(logits, targets[kept], reduction="sum")
        return {"loss": loss / max(1, count_foreseen(labels, len(self)))}

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

    def build(settings: dict, ordered: list[dict], aside: list[dict]) -> HeadTrainer:
        trainer = HeadTrainer(
            Heads(model.network, recipe.heads),
            TrainingArguments(**settings),
            data_collator=collate,
            train_dataset=ordered,
            eval_dataset=aside,
        )
        trainer.tokens_an_example = trainer.count(collate(aside)["labels"]) / len(aside)
        return trainer

    return tune_on_lists("medusa", model, template, training, held, recipe, name, folder, build)


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
