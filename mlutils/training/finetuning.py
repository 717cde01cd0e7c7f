"""Finetuning: the methods by name, what each of them trains on, and what a model writes before and after."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from mlutils import metrics
from mlutils.corpora import Corpus
from mlutils.tracing import demonstrations, prompts
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView
from mlutils.training import medusa, reinforcement, sft, soft_targets
from mlutils.training.adaptation import FinetuningError, Recipe

METHODS = ("sft", "soft", "rl_f1", "rl_marginals", "medusa")


def tune(
    method: str,
    model: Model,
    template: prompts.Template,
    training: Corpus,
    held: Corpus,
    name: str,
    folder: Path,
    **settings,
) -> pd.DataFrame:
    """Trains the adapter called `name` by a method, and returns its curve (`adaptation.CURVE`, and more for RL).

    settings: of all methods; each takes those that its recipe has (`adaptation.Recipe`, `reinforcement.Recipe`; `batch`
    is RL's prompts a step). Writes `adapters/<name>/` in `folder`, goes on from the last checkpoint, and does not train
    again what is finished. Raises FinetuningError for a method that is not known, and what the method raises.
    """
    if method not in METHODS:
        raise FinetuningError(f"method {method!r} is not known: take one of {', '.join(METHODS)}")
    if training.single_label and method in ("sft", "rl_f1", "medusa"):
        training, held = (each.take(each.gold.any(axis=1)) for each in (training, held))  # no majority, no answer
    if method == "sft":
        return sft.tune(model, template, training, held, _pick(Recipe, settings), name, folder)
    if method == "soft":
        return soft_targets.tune(model, training, held, _pick(Recipe, settings), name, folder)
    if method == "medusa":
        return medusa.tune(model, template, training, held, _pick(medusa.Recipe, settings), name, folder)
    chosen = settings | {"reward": method.removeprefix("rl_"), "prompts_per_step": settings["batch"]}
    return reinforcement.tune(model, template, training, _pick(reinforcement.Recipe, chosen), name, folder)


def _pick(recipe, settings):
    """Returns a recipe of the settings that it has."""
    return recipe(
        **{field.name: settings[field.name] for field in dataclasses.fields(recipe) if field.name in settings}
    )


def write_examples(method: str, template: prompts.Template, training: Corpus, shots: int, seed: int) -> list[str]:
    """Returns what a method trains on, a text a document as it comes first: prompt, and in ⟦ ⟧ what is learnt there.

    That is the answer (sft), the share of annotators behind each question (soft; one question is shown), or the gold
    set or the shares that sampled answers are compared with (RL, whose demonstrations are drawn otherwise).
    """
    first = seed * sft.PASSES
    shares = soft_targets.vote_shares(training)
    if method == "soft":
        questions = soft_targets.write_questions(training, training, shots, first)
        asked = [
            (group[0], f" {prompts.UNARY_ANSWERS[0]}: {row[0]:.2f}")
            for group, row in zip(questions, shares, strict=True)
        ]
    else:
        asked = list(zip(*sft.write_pairs(template, training, training, shots, first), strict=True))
    if method == "rl_marginals":
        voted = [", ".join(f"{label} {v:.2f}" for label, v in zip(training.labels, row, strict=True)) for row in shares]
        asked = [(prompt, said) for (prompt, _), said in zip(asked, voted, strict=True)]
    return [f"{prompt}⟦{said}⟧" for prompt, said in asked]


def write_answers(
    model: Model, template: prompts.Template, corpus: Corpus, training: Corpus, shots: int = 0
) -> pd.DataFrame:
    """Returns the greedy answer to each document: `text`, `gold`, `answer`, `status`, `labels` (number said), `f1`.

    f1: example-F1 with the gold set, 0 for an answer that is not in the format. Demonstrations come from `training`,
    the same for all documents.
    """
    plan = demonstrations.draw(training, shots)
    tables, _ = ListView(model, Prompting(corpus, training, plan, template)).ask(range(len(corpus)))
    answers = pd.DataFrame(tables["answers"], columns=["document", "text", "said", "status"]).set_index("document")
    answers = answers.reindex(corpus.documents["id"])  # a document that failed has no answer
    said = [
        [label in each for label in corpus.labels] if isinstance(each, list) else [False] * len(corpus.labels)
        for each in answers["said"]
    ]
    formed = answers["status"].isin(["ok", "none"]).to_numpy()
    return pd.DataFrame(
        {
            "text": corpus.documents["text"],
            "gold": [", ".join(labels) or "none" for labels in sft.gold_labels(corpus)],
            "answer": answers["text"].fillna("").str.strip().to_numpy(),
            "status": answers["status"].fillna("failed").to_numpy(),
            "labels": [sum(row) for row in said],
            "f1": np.where(formed, metrics.example_f1(said, corpus.gold), 0.0),
        }
    )
