"""Soft targets: LoRA on unary questions, against the share of annotators who chose the label (ours, not the paper's).

SFT trains an answer and the readouts take what stands behind it; this trains what is read out. A document and the
questions about all its labels make one row, in which each question sees the document and itself only.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from peft import get_peft_model
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Trainer, TrainingArguments, set_seed

from mlutils.corpora import Corpus
from mlutils.tracing import prompts, vocabulary
from mlutils.tracing.engine import shared_beginning
from mlutils.tracing.head import read_out
from mlutils.tracing.models import Model, has_windows
from mlutils.training.adaptation import FinetuningError, Job, Recipe, lora, train_on
from mlutils.training.sft import draw_shown, keep_fitting, passes


def write_questions(corpus: Corpus, training: Corpus, shots: int = 0, seed: int = 0) -> list[list[str]]:
    """Returns the unary questions about each document, one a label."""
    texts = dict(zip(training.documents["id"], training.documents["text"], strict=True))
    return [
        [prompts.unary_prompt([(texts[i], *rest) for i, *rest in shown], text, label) for label in corpus.labels]
        for text, (_, shown) in zip(corpus.documents["text"], draw_shown(corpus, training, shots, seed), strict=True)
    ]


def vote_shares(corpus: Corpus) -> np.ndarray:
    """Returns the targets, (D, L): the share of annotators who chose a label; the gold set where it is unknown."""
    return np.where(corpus.has_votes[:, None], corpus.votes, corpus.gold)


def pack(sequences: Sequence[Sequence[int]]) -> dict:
    """Returns several token sequences as one row that computes their common beginning once.

    `input_ids` (N,), `position_ids` (N,), `sees` bool (N, N): what each token attends to, `ends` (S,): the last token
    of each sequence.
    """
    common = min(shared_beginning(sequences), min(map(len, sequences)) - 1)
    tokens, places, ends = list(sequences[0][:common]), list(range(common)), []
    rests = [sequence[common:] for sequence in sequences]
    size = common + sum(map(len, rests))
    sees = np.zeros((size, size), bool)
    sees[:, :common] = True
    for rest in rests:
        start, stop = len(tokens), len(tokens) + len(rest)
        sees[start:stop, start:stop] = True
        tokens += rest
        places += range(common, common + len(rest))
        ends.append(stop - 1)
    return {"input_ids": tokens, "position_ids": places, "sees": np.tril(sees), "ends": ends}


def encode_questions(model: Model, corpus: Corpus, questions: Sequence[Sequence[str]]) -> list[dict | None]:
    """Returns the packed row of each document, with its targets `shares` (L,); None where it is too long."""
    rows = []
    for asked, shares in zip(questions, vote_shares(corpus), strict=True):
        sequences = vocabulary.encode_prompts(model.tokenizer, asked)
        fits = max(map(len, sequences)) < model.context
        rows.append({**pack(sequences), "shares": shares.tolist()} if fits else None)
    return rows


def collate(rows: Sequence[dict], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Returns a padded batch: `input_ids`, `position_ids` (B, N), an additive `attention_mask` (B, 1, N, N), `ends`
    and `shares` (B, L).
    """
    size = max(len(row["input_ids"]) for row in rows)
    batch = {name: torch.zeros(len(rows), size, dtype=torch.long) for name in ("input_ids", "position_ids")}
    allowed = torch.eye(size, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: no row without a token
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        for name, tensor in batch.items():
            tensor[i, :n] = torch.tensor(row[name])
        allowed[i, :n, :n] = torch.from_numpy(row["sees"])
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
    return {
        **batch,
        "attention_mask": mask[:, None],
        "ends": torch.tensor([row["ends"] for row in rows]),
        "shares": torch.tensor([row["shares"] for row in rows], dtype=torch.float32),
    }


def log_odds(network, batch: dict, words: Sequence[int]) -> torch.Tensor:
    """Returns the log-odds of `reasonable` against `unreasonable` at the end of each question, (B, L).

    words: the first tokens of both answers. The vocabulary head is used at these positions only.
    """
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    given = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask")}
    states = base.get_decoder()(**given, use_cache=False).last_hidden_state
    at_ends = states[torch.arange(len(states), device=states.device)[:, None], batch["ends"]]
    both = read_out(base, at_ends).float()[..., list(words)]
    return both[..., 0] - both[..., 1]


class SoftTrainer(Trainer):
    """A Trainer whose loss is binary cross-entropy with vote shares, the mean over documents and labels, in nats."""

    words: tuple[int, int]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = log_odds(model, inputs, self.words)
        loss = binary_cross_entropy_with_logits(logits, inputs["shares"])
        return (loss, {"logits": logits}) if return_outputs else loss


def tune(model: Model, training: Corpus, held: Corpus, recipe: Recipe, name: str, folder: Path | str) -> pd.DataFrame:
    """Trains an adapter on unary questions, and returns its curve (`adaptation.CURVE`; losses in nats a question).

    As `sft.tune`, but for `loss_on`, which says nothing here. Raises FinetuningError as it does, and for a model
    whose attention is not plain causal.
    """
    if not model.packed or has_windows(model.network.config):
        raise FinetuningError(
            f"{model.name} cannot be trained on packed questions, its attention is not plain causal, or sees "
            "windows: take sft, or another model"
        )
    asked = [write_questions(training, training, recipe.train_shots, seed) for seed in passes(recipe)]
    texts = [question for questions in asked for group in questions for question in group]
    texts += [f"{share:.6f}" for share in vote_shares(training).ravel()]
    job = Job("soft", name, model, training, recipe, texts, Path(folder))
    if (curve := job.finished()) is not None:
        return curve
    rows = [row for questions in asked for row in encode_questions(model, training, questions)]
    examples = keep_fitting(rows, training.name)
    held_questions = write_questions(held, training, recipe.train_shots, recipe.seed)
    aside = keep_fitting(encode_questions(model, held, held_questions), held.name)
    words = vocabulary.answer_tokens(model.tokenizer, prompts.UNARY_ANSWERS)
    if len(set(words)) < 2:
        raise FinetuningError(f"{model.name}'s tokenizer begins {prompts.UNARY_ANSWERS} alike: take sft")

    def build(settings: dict, ordered: list[dict]) -> SoftTrainer:
        set_seed(recipe.seed)  # the adapter's first weights are random
        trainer = SoftTrainer(
            get_peft_model(model.network, lora(recipe)),
            TrainingArguments(**settings, remove_unused_columns=False, label_names=["shares"]),
            data_collator=lambda rows: collate(rows, model.dtype),
            train_dataset=ordered,
            eval_dataset=aside,
        )
        trainer.words = words
        return trainer

    return train_on(job, examples, build)
