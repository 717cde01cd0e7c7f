"""Supervised finetuning (SFT) by TRL and LoRA: instruction, query and answer (section 5 of the paper).

The paper's training prompts show no demonstrations; with some, drawn anew for each prompt, it is *in-context* SFT.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from mlutils.corpora import Corpus
from mlutils.tracing import demonstrations, prompts
from mlutils.tracing.answers import format_answer
from mlutils.tracing.models import Model
from mlutils.tracing.vocabulary import encode, encode_prompts
from mlutils.training.adaptation import FinetuningError, Job, Recipe, lora, train_on

PASSES = 1000  # seeds of demonstrations that a training seed has to itself, one a pass
LEFT_OUT = 0.05  # share of documents that may not fit before a run stops


def answer_text(template: prompts.Template, said: Sequence[str]) -> str:
    """Returns what follows `prompts.list_prompt` where a model lists these labels: as a demonstration goes on there.

    The space that the prompt is stripped of comes first, what ends the answer (a line break, a full stop) last.
    """
    before, _, after = template.demonstration.partition("{answer}")
    gap = before[len(before.rstrip(" ")) :]
    return gap + format_answer(said, template.form) + after


def gold_labels(corpus: Corpus) -> list[list[str]]:
    """Returns each document's gold labels, in the order in which the instruction lists them."""
    return [[label for label, is_gold in zip(corpus.labels, row, strict=True) if is_gold] for row in corpus.gold]


def draw_shown(corpus: Corpus, training: Corpus, shots: int, seed: int) -> list[tuple[tuple, tuple]]:
    """Returns for each document of `corpus` the demonstrations that its training prompt shows: ids, unary questions.

    Drawn from `training` as `demonstrations.draw` does, anew for each document, and never the document itself:
    documents of even rows are shown those that are not of even rows, and the other way round.
    """
    shown: list[tuple[tuple, tuple]] = [((), ())] * len(corpus)
    for half in (0, 1) if shots else ():
        rows = range(half, len(corpus), 2)
        own = corpus.documents["id"].iloc[list(rows)]
        plan = demonstrations.draw(
            training, shots, shared=False, queries=len(rows), seed=2 * seed + half, exclude=tuple(own)
        )
        for row, ids, questions in zip(rows, plan.ids, plan.questions, strict=True):
            shown[row] = ids, questions
    return shown


def write_pairs(
    template: prompts.Template, corpus: Corpus, training: Corpus, shots: int = 0, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Returns the training prompt and the answer of each document, as two lists of texts."""
    texts, said = dict(zip(*(training.documents[c] for c in ("id", "text")), strict=True)), gold_labels(training)
    labels = dict(zip(training.documents["id"], said, strict=True))
    asked = [
        prompts.list_prompt(template, corpus.labels, [(texts[i], labels[i]) for i in ids], text)
        for text, (ids, _) in zip(corpus.documents["text"], draw_shown(corpus, training, shots, seed), strict=True)
    ]
    return asked, [answer_text(template, each) for each in gold_labels(corpus)]


def encode_held(model: Model, template: prompts.Template, training: Corpus, held: Corpus, recipe) -> list[dict]:
    """Returns the examples of documents set aside, whose prompts show demonstrations of the first pass."""
    pairs = write_pairs(template, held, training, recipe.train_shots, recipe.seed)
    return keep_fitting(encode_pairs(model, *pairs, recipe.loss_on), held.name)


def encode_pairs(model: Model, asked: Sequence[str], answers: Sequence[str], loss_on: str = "answer") -> list[dict]:
    """Returns `input_ids` and `labels` (-100: no loss) of each prompt and answer, None where they do not fit.

    The prompt's tokens are those that the tracer asks with, the answer's those that it has behind the prompt. A pair
    does not fit where these are not to be told apart (a token holds the prompt's end and the answer's beginning), or
    where it has more tokens than the model's context.
    """
    begins = encode_prompts(model.tokenizer, list(asked))
    wholes = encode_prompts(model.tokenizer, [p + a for p, a in zip(asked, answers, strict=True)])
    examples = []
    for begin, whole, answer in zip(begins, wholes, answers, strict=True):
        rest = whole[len(begin) :]
        if whole[: len(begin)] != begin:  # blanks at the end of a text are cut otherwise where the prompt ends
            rest = encode(model.tokenizer, answer)
            rest = rest if whole[-len(rest) :] == rest else []
        tokens, hidden = begin + rest, len(begin) if loss_on == "answer" else 0
        fits = rest and len(tokens) <= model.context
        examples.append({"input_ids": tokens, "labels": [-100] * hidden + tokens[hidden:]} if fits else None)
    return examples


def keep_fitting(examples: Sequence[dict | None], corpus: str) -> list[dict]:
    """Returns the examples that fit, and says how many do not; raises FinetuningError where these are more than 5 %."""
    fitting = [each for each in examples if each is not None]
    said = (
        f"{corpus}: {len(examples) - len(fitting)} of {len(examples)} training prompts do not fit (no token boundary "
        "before the answer, or too long for the model)"
    )
    if len(examples) - len(fitting) > LEFT_OUT * len(examples) or not fitting:
        raise FinetuningError(f"{said}: fewer train_shots, or another form")
    if len(fitting) < len(examples):
        print(f"{said}: they are left out")
    return fitting


class TokenMean:
    """A trainer whose loss on documents set aside is the mean over tokens, whatever the batch.

    transformers takes the mean of the batches' means, each at the weight of its examples, and answers differ in length.
    """

    tokens_an_example: float  # of the documents set aside, tokens with a loss only

    def count(self, labels: torch.Tensor) -> int:
        """Returns how many tokens of a batch (B, N) have a loss."""
        return count_tokens(labels.tolist())

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Returns what the trainer's does, with the loss times the batch's tokens an example over those of all."""
        share = self.count(inputs["labels"]) / len(inputs["labels"]) / self.tokens_an_example
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        return loss * share, logits, labels


class TokenTrainer(TokenMean, SFTTrainer):
    """TRL's trainer with that loss."""


def count_tokens(labels: Sequence[Sequence[int]]) -> int:
    """Returns how many tokens of examples have a loss: -100 has none, nor has the first, which nothing predicts."""
    return sum(token != -100 for row in labels for token in row[1:])


def tune(
    model: Model,
    template: prompts.Template,
    training: Corpus,
    held: Corpus,
    recipe: Recipe,
    name: str,
    folder: Path | str,
) -> pd.DataFrame:
    """Trains an SFT adapter called `name`, and returns its curve (`adaptation.CURVE`; losses in nats a token).

    held: documents set aside, for the held-out loss. Writes `adapters/<name>/` in `folder`; a killed run goes on from
    its last checkpoint there, and what is finished is not trained again. Raises FinetuningError for prompts that do
    not fit, a loss that is no number, or a folder of another recipe.
    """

    def build(settings: dict, ordered: list[dict], aside: list[dict]) -> TokenTrainer:
        trainer = TokenTrainer(
            model.network,
            SFTConfig(**settings, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_list(ordered),
            eval_dataset=Dataset.from_list(aside),
            processing_class=model.tokenizer,
            peft_config=lora(recipe),
        )
        trainer.tokens_an_example = count_tokens([each["labels"] for each in aside]) / len(aside)
        return trainer

    return tune_on_lists("sft", model, template, training, held, recipe, name, folder, build)


def tune_on_lists(
    method: str,
    model: Model,
    template: prompts.Template,
    training: Corpus,
    held: Corpus,
    recipe,
    name: str,
    folder: Path | str,
    build: Callable,
) -> pd.DataFrame:
    """Returns the curve of what a method trains on prompts and their answers, as `tune`.

    build: returns the Trainer, given its settings, the examples in their order, and those of documents set aside.
    """
    pairs = [write_pairs(template, training, training, recipe.train_shots, seed) for seed in passes(recipe)]
    asked, answers = ([text for each in pairs for text in each[i]] for i in (0, 1))
    texts = [prompt + answer for prompt, answer in zip(asked, answers, strict=True)]
    job = Job(method, name, model, training, recipe, texts, Path(folder))
    if (curve := job.finished()) is not None:
        return curve
    examples = keep_fitting(encode_pairs(model, asked, answers, recipe.loss_on), training.name)
    aside = encode_held(model, template, training, held, recipe)
    return train_on(job, examples, lambda settings, ordered: build(settings, ordered, aside))


def passes(recipe) -> range:
    """Returns the seeds of the demonstrations of each pass; without demonstrations all passes are the same texts."""
    return range(recipe.seed * PASSES, recipe.seed * PASSES + recipe.epochs)
