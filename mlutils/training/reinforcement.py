"""Reinforcement learning by TRL's GRPO: a model writes lists, and is rewarded for them (ours, not the paper's).

The gradient that a reward stands for is taken exactly, so much is switched off: advantages are not divided by a
standard deviation, an answer's log-probability is summed over its tokens and divided by a constant (`dr_grpo`; `grpo`
would divide by its length), answers are drawn from the whole softmax by the weights that are then changed, without
dropout, and an answer is its tokens up to its end as `answers.is_finished` has it: nothing behind is learned from.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from mlutils.corpora import Corpus
from mlutils.tracing import prompts, vocabulary
from mlutils.tracing.answers import is_finished, parse
from mlutils.tracing.engine import BadLogits, eos_tokens
from mlutils.tracing.engines import too_long
from mlutils.tracing.models import Model
from mlutils.training import adaptation
from mlutils.training.adaptation import FinetuningError, Job, arguments, lora, train
from mlutils.training.rewards import PENALTY, example_f1_reward, marginals_reward, squared_distance
from mlutils.training.sft import PASSES, write_pairs
from mlutils.training.soft_targets import vote_shares

REWARDS = ("f1", "marginals")
OWN = ("reward_std", "f1", "distance", "malformed", "labels")  # columns of the curve beside those of all methods


@dataclass(frozen=True)
class Recipe:
    """How a model is rewarded and trained."""

    reward: str = "f1"  # f1 (example-F1 with the gold set) | marginals (shares of answers against votes)
    steps: int = 200
    prompts_per_step: int = 8
    group: int = 8  # answers to each prompt
    rate: float = 1e-3  # learning rate, constant
    rank: int = 16  # of LoRA
    alpha: int = 32
    layers: ClassVar[str] = "all-linear"
    dropout: ClassVar[float] = 0.0  # answers are drawn by the weights that are changed
    beta: float = 1e-3  # weight of the KL divergence from the start; at 0 it is not known
    temperature: float = 1.0  # of sampling; at 1 the marginals are the model's own
    new_tokens: int = 40  # an answer that is longer is cut off, so malformed
    train_shots: int = 0  # demonstrations in a prompt, drawn anew for each
    penalty: float = PENALTY  # of a malformed answer (reward "marginals")
    patience: int = 20  # steps without any reward after which a run is given up
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self):
        if self.reward not in REWARDS:
            raise ValueError(f"reward={self.reward!r} is unknown; choose one of {', '.join(REWARDS)}")
        smallest = dict(steps=1, prompts_per_step=1, group=3, rank=1, new_tokens=1, train_shots=0, patience=1)
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} is too small: take {least} or more")
        if self.rate <= 0 or self.temperature <= 0 or self.beta < 0:
            raise ValueError(
                f"rate={self.rate} and temperature={self.temperature} must be above 0, beta={self.beta} 0 or more"
            )


def tune(
    model: Model, template: prompts.Template, training: Corpus, recipe: Recipe, name: str, folder: Path | str
) -> pd.DataFrame:
    """Trains an adapter called `name` by reinforcement, and returns its curve, a row a step.

    Answers are compared with gold sets (f1) or with vote shares, where there are no votes with gold sets (marginals).
    Writes `adapters/<name>/` in `folder`; a killed run goes on from its last checkpoint there, and what is finished is
    not trained again.

    Columns (`adaptation.CURVE`, then OWN): loss; reward and its standard deviation over answers; f1, with the gold set;
    distance between shares of answers and of votes, squared, summed over labels, unbiased; malformed, share of answers;
    labels, mean number; kl, nats an answer (NaN without `beta`); tokens and seconds since the start. Raises
    FinetuningError where a run learns nothing or its numbers are not finite, prompts are too long for the model, or the
    folder is of another recipe.
    """
    asked = draw_prompts(model, template, training, recipe)
    job = Job(f"rl_{recipe.reward}", name, model, training, recipe, asked["prompt"].tolist(), Path(folder))
    if (curve := job.finished()) is not None:
        return curve
    return train(job, lambda: _build(job, template.form, asked), _read_curve, Watch(recipe))


def draw_prompts(model: Model, template: prompts.Template, training: Corpus, recipe: Recipe) -> pd.DataFrame:
    """Returns the prompts of a whole run in their order: `row` of the document, and `prompt`.

    Documents come in shuffled epochs; demonstrations are drawn anew for each prompt, never the document itself.
    Raises FinetuningError where a prompt and its answer do not fit the model.
    """
    rng = np.random.default_rng(recipe.seed)
    wanted, asked = recipe.steps * recipe.prompts_per_step, []
    for epoch in range(math.ceil(wanted / len(training))):
        rows = rng.permutation(len(training))[: wanted - len(asked)]
        seed = PASSES * recipe.seed + epoch
        texts, _ = write_pairs(template, training.take(rows), training, recipe.train_shots, seed)
        asked += zip(rows.tolist(), texts, strict=True)
    lengths = map(len, vocabulary.encode_prompts(model.tokenizer, [prompt for _, prompt in asked]))
    failed = [error for length in lengths if (error := too_long(model, length + recipe.new_tokens))]
    if failed:
        raise FinetuningError(f"{len(failed)} of {wanted} prompts are {failed[0]}: fewer train_shots or new_tokens")
    return pd.DataFrame(asked, columns=["row", "prompt"])


@torch.no_grad()
def sample(
    model: Model, network, encoded: Sequence[Sequence[int]], form: str, answers: int, new_tokens: int, temperature=1.0
) -> list[list[int]]:
    """Returns `answers` answers to each encoded prompt, in the prompts' order, drawn from the whole softmax.

    An answer ends where `answers.is_finished` says so, at an end-of-text token (kept), or after `new_tokens` tokens.
    `network` is the one to ask, `model.network` or a tuned one; draws come from torch's generator. Raises BadLogits
    where there is nothing to draw from.
    """
    ends, device = eos_tokens(model), model.device
    width = max(map(len, encoded))
    ids = torch.tensor([[0] * (width - len(each)) + list(each) for each in encoded], device=device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in encoded], device=device)
    place = (mask.cumsum(1) - 1).clamp(min=0)
    # A prompt is read once for all its answers, so `generate` is of no use here.
    out = network(input_ids=ids, attention_mask=mask, position_ids=place, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    cache.batch_repeat_interleave(answers)
    logits, mask, place = (each.repeat_interleave(answers, 0) for each in (out.logits[:, -1], mask, place[:, -1:]))
    said: list[list[int]] = [[] for _ in logits]
    going = list(range(len(said)))  # the answers that the rows of a pass are of
    for _ in range(new_tokens):
        if not torch.isfinite(logits).all():
            raise BadLogits
        token = torch.multinomial((logits.float() / temperature).softmax(-1), 1)
        for answer, drawn in zip(going, token[:, 0].tolist(), strict=True):
            said[answer].append(drawn)
        rows = [
            row
            for row, answer in enumerate(going)
            if not (said[answer][-1] in ends or is_finished(_decode(model, said[answer]), form))
        ]
        if not rows:
            break
        if len(rows) < len(going):
            left = torch.tensor(rows, device=device)
            cache.batch_select_indices(left)
            token, mask, place, going = token[left], mask[left], place[left], [going[row] for row in rows]
        mask, place = torch.cat([mask, torch.ones_like(token)], 1), place + 1
        out = network(input_ids=token, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True)
        logits = out.logits[:, -1]
    return said


def read(
    model: Model, answers: Sequence[Sequence[int]], labels: Sequence[str], form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which labels each answer says, bool (N, L), and which answers are malformed, bool (N,).

    An answer is malformed unless the parser's status is ok or none: no list, cut off, an unknown or repeated label.
    """
    ends = eos_tokens(model)
    said, malformed = np.zeros((len(answers), len(labels)), bool), np.zeros(len(answers), bool)
    for i, tokens in enumerate(answers):
        ended = tokens[-1] in ends
        text = _decode(model, tokens[:-1] if ended else tokens)
        answer = parse(text, labels, form, complete=ended or is_finished(text, form))
        malformed[i] = answer.status not in ("ok", "none")
        said[i] = np.isin(labels, answer.labels)
    return said, malformed


def _decode(model: Model, tokens: Sequence[int]) -> str:
    return model.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


class _Trainer(GRPOTrainer):
    """GRPO that reads a prompt once for all its answers, as TRL does not: three to ten times fewer tokens."""

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **_
    ):
        """Returns the log-probability of each answer's tokens (N, logits_to_keep), entropies or None, and None."""
        last = input_ids.shape[1] - logits_to_keep - 1  # of the prompt; padding is on its left, so it is a token
        places = (attention_mask.cumsum(1) - 1).clamp(min=0)
        columns = torch.stack([input_ids, attention_mask, places])[:, :, :last]
        (ids, mask, place), prompt = torch.unique(columns, dim=1, return_inverse=True)
        with self.accelerator.autocast():
            begun = model(input_ids=ids, attention_mask=mask, position_ids=place, use_cache=True, logits_to_keep=1)
            begun.past_key_values.batch_select_indices(prompt)
            out = model(
                input_ids=input_ids[:, last:],
                attention_mask=attention_mask,
                position_ids=places[:, last:],
                past_key_values=begun.past_key_values,
                labels=input_ids[:, last:].masked_fill(attention_mask[:, last:] == 0, -100),
                fused_lm_head=True,
            )
        return out.log_probs, out.entropy if compute_entropy else None, None


def _build(job: Job, form: str, asked: pd.DataFrame) -> GRPOTrainer:
    """Returns TRL's trainer for the prompts of `draw_prompts`."""
    recipe = job.recipe
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        return _Trainer(
            model=job.model.network,
            reward_funcs=_reward(job, form),
            args=GRPOConfig(
                **arguments(job),
                max_steps=recipe.steps,
                per_device_train_batch_size=recipe.prompts_per_step * recipe.group,
                num_generations=recipe.group,
                shuffle_dataset=False,  # `draw_prompts` has shuffled
                max_completion_length=recipe.new_tokens,
                temperature=recipe.temperature,
                scale_rewards="none",
                loss_type="dr_grpo",
                beta=recipe.beta,
                logging_steps=1,
                save_steps=recipe.checkpoint_every,
                activation_checkpointing=False,
            ),
            train_dataset=Dataset.from_pandas(asked),
            processing_class=job.model.tokenizer,
            peft_config=lora(recipe),
            rollout_func=_rollout(job, form),
        )


def _rollout(job: Job, form: str) -> Callable:
    """Returns the function that TRL asks for answers: one for each prompt given, and prompts come in whole groups."""
    model, recipe = job.model, job.recipe

    def roll_out(texts, trainer) -> dict:
        encoded = vocabulary.encode_prompts(model.tokenizer, texts[:: recipe.group])
        trainer.model.eval()
        try:
            answers = sample(model, trainer.model, encoded, form, recipe.group, recipe.new_tokens, recipe.temperature)
        except BadLogits as error:
            raise FinetuningError(
                f"{error} after step {trainer.state.global_step}: take a lower rate than {recipe.rate}, and remove "
                f"{trainer.args.output_dir}"
            ) from None
        trainer.model.train()
        shown = [ids for ids in encoded for _ in range(recipe.group)]
        return {"prompt_ids": shown, "completion_ids": answers, "logprobs": None}

    return roll_out


def _reward(job: Job, form: str) -> Callable:
    """Returns the function that TRL asks for rewards, which also logs what the answers are like."""
    training, recipe = job.training, job.recipe
    votes = vote_shares(training)

    def reward(completion_ids, row, log_metric, **_) -> list[float]:
        said, malformed = read(job.model, completion_ids, training.labels, form)
        rewards, distances, scores = [], [], []
        for start in range(0, len(row), recipe.group):
            group, document = slice(start, start + recipe.group), row[start]
            answers = said[group], malformed[group]
            scores.append(example_f1_reward(*answers, training.gold[document]))
            distances.append(squared_distance(*answers, votes[document]))
            marginal = marginals_reward(*answers, votes[document], recipe.penalty)
            rewards.append(scores[-1] if recipe.reward == "f1" else marginal)
        log_metric("f1", float(np.mean(scores)))
        log_metric("distance", float(np.mean(distances)))
        log_metric("malformed", float(malformed.mean()))
        log_metric("labels", float(said.sum(1).mean()))
        return np.concatenate(rewards).tolist()

    return reward


class Watch(adaptation.Watch):
    """Also stops a run whose answers earn nothing, with the reason."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe, self.idle = recipe, 0

    def on_log(self, args, state, control, logs=None, **given):
        super().on_log(args, state, control, logs, **given)
        if "reward" not in logs:
            return  # the summary at the end
        nothing = logs["f1"] == 0 if self.recipe.reward == "f1" else logs["malformed"] == 1
        self.idle = self.idle + 1 if nothing else 0
        if self.idle == self.recipe.patience:
            raise FinetuningError(
                f"no answer of {self.idle} steps earned a reward (up to step {state.global_step}; of the last answers "
                f"{logs['malformed']:.0%} malformed): start from a model that writes lists, e.g. an SFT adapter, or "
                "take a lower rate or more new_tokens"
            )


def _read_curve(history: Sequence[dict]) -> pd.DataFrame:
    """Returns TRL's log as a curve, a row a step."""
    rows = pd.DataFrame([row for row in history if "reward" in row])
    rows["kl"] = rows["kl"] * rows["completions/mean_length"] if "kl" in rows else np.nan  # TRL: a token
    rows["tokens"] = rows["num_tokens"].astype(int)
    return rows[["step", "tokens", "loss", "reward", "kl", "seconds", *OWN]]
