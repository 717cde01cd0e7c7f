"""Miniatures: small Llamas trained from nothing on `episodes`, a ladder of three sizes (ours, not the paper's).

A plain loop: AdamW, warm-up and cosine. Many short episodes a step come first: with one document, any attention finds
the text that a label belongs to, and what words mean is soon learned; with more documents, which text is meant. All
answers of an episode count fully, its text a little. A killed run goes on from its last checkpoint.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_cosine_with_min_lr_schedule_with_warmup,
)

from mlutils.training import episodes
from mlutils.training.checkpoints import Checkpoint
from mlutils.training.episodes import SHORT, Episode, Source

MIX = {"list": 0.55, "unary": 0.25, "pairwise": 0.15, "boxes": 0.05}  # how often each kind of episode comes
HELD_OUT = 80  # episodes on which the loss is measured, as many of each kind
HASHED = 40  # episodes by which a stream is recognised
TEXT = 8  # one of so many tokens of the text is a target
READ = 3000  # episodes that the tokenizer is made from


class MiniatureError(ValueError):
    """Raised where a training diverges, or a checkpoint or manifest does not fit."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a miniature: widths in units, rates of AdamW, phases as `draw_batch` reads them."""

    width: int
    layers: int
    heads: int
    inner: int
    steps: int
    rate: float
    spread: float = 0.9  # standard deviation of the first weights, times the root of the width: 0.02 is too little here
    phases: tuple[tuple[float, int, int], ...] = ((0.3, 1, 64), (0.3, 3, 24), (0.4, 12, 8))
    warmup: float = 0.05  # share of steps
    text_weight: float = 0.1  # of every eighth token of the text in the loss; a token of an answer has 1
    vocabulary: int = 2048
    longest: int = 1408  # tokens of an episode; what is behind them falls away
    positions: int = 2048
    corpora: int = 24  # seeds of vignettes: most documents are read once
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """Returns a hash of the recipe and of the mix of episodes."""
        return hashlib.sha256(json.dumps([dataclasses.asdict(self), MIX]).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Miniature:
    """A trained miniature: its network and tokenizer, what made them, and how the loss fell."""

    network: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    recipe: Recipe
    documents: pd.DataFrame  # that its episodes are made of
    hashes: dict[str, str]  # SHA-256 of these documents and of the stream of episodes
    curve: pd.DataFrame


SIZES = {
    "xs": Recipe(width=48, layers=2, heads=4, inner=128, steps=1000, rate=5e-3),
    "s": Recipe(width=192, layers=2, heads=6, inner=512, steps=1500, rate=1.3e-3),
    "m": Recipe(width=320, layers=3, heads=5, inner=864, steps=1500, rate=7e-4),
}


def draw_held_out() -> list[Episode]:
    """Returns the episodes on which the loss is measured: as many of each kind, of documents set aside."""
    source, rng = episodes.gather_held_out(), np.random.default_rng(0)
    return [episodes.draw(source, kind, rng) for kind in MIX for _ in range(HELD_OUT // len(MIX))]


def draw_batch(source: Source, recipe: Recipe, step: int) -> list[Episode]:
    """Returns the episodes of a step: a phase is a share of the steps, documents of an episode, episodes a step."""
    ends = np.cumsum([share for share, *_ in recipe.phases]) * recipe.steps
    phase = min(int(np.searchsorted(ends, step, side="right")), len(ends) - 1)
    _, documents, rows = recipe.phases[phase]
    return list(itertools.islice(episodes.stream(source, MIX, recipe.seed + 2, step * rows, documents), rows))


def make_tokenizer(source: Source, recipe: Recipe) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer made from the first episodes of a stream of its own."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=["<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    read = itertools.islice(episodes.stream(source, MIX, seed=1, documents=SHORT), READ)
    bpe.train_from_iterator((episode.text for episode in read), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<eos>")


def start(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Returns an untrained network, the same for the same seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        initializer_range=recipe.spread / math.sqrt(recipe.width),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, episode: Episode, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the tokens (T,) of an episode and the weight (T,) of each as a target; the first is never one.

    Of the text only every eighth token is a target, beginning anywhere: predictions are what costs most.
    """
    read = tokenizer(episode.text, return_offsets_mapping=True, truncation=True, max_length=recipe.longest)
    starts = np.array([start for start, _ in read["offset_mapping"]])
    weights = np.where(np.arange(len(starts)) % TEXT == len(starts) % TEXT, recipe.text_weight, 0.0)
    for first, end in episode.answers:
        weights[(starts >= first) & (starts < end)] = 1.0
    weights[0] = 0.0
    return torch.tensor(read["input_ids"]), torch.tensor(weights, dtype=torch.float32)


def losses(network: LlamaForCausalLM, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns the loss in nats of each token but the first, (N, T - 1), of N episodes (N, T); 0 where it weighs 0."""
    asked = weights[:, 1:] > 0
    hidden = network.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    found = torch.zeros(asked.shape)
    found[asked] = cross_entropy(network.lm_head(hidden[asked]), tokens[:, 1:][asked], reduction="none")
    return found


def collate(batch: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns tokens and weights (N, T) of encoded episodes; behind its end an episode weighs nothing.

    No mask is needed: attention is causal, so what stands behind changes nothing.
    """
    return tuple(pad_sequence(list(part), batch_first=True) for part in zip(*batch, strict=True))


@torch.no_grad()
def held_out_loss(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, held: Sequence[Episode], recipe: Recipe
) -> dict[str, float]:
    """Returns bits per token of answers, for each kind of episode and, as `all`, their mean."""
    network.eval()
    bits = {}
    for episode in held:
        tokens, weights = encode(tokenizer, episode, recipe)
        bits.setdefault(episode.kind, []).append(
            losses(network, tokens[None], weights[None])[0][weights[1:] == 1] / np.log(2)
        )
    network.train()
    found = {kind: float(torch.cat(parts).mean()) for kind, parts in bits.items()}
    return {**found, "all": float(np.mean(list(found.values())))}


def train(recipe: Recipe, source: Source, held: Sequence[Episode], folder: Path, checkpoints: int = 20) -> Miniature:
    """Returns a trained miniature; goes on from the folder's checkpoint if there is one.

    The curve has a row for each of so many checkpoints: step, tokens, seconds, loss (nats a weighted token, mean since
    the row before) and bits per held-out answer token, for all and by kind. Raises MiniatureError where the loss is not
    finite, or the checkpoint is of another recipe or of other documents.
    """
    tokenizer = make_tokenizer(source, recipe)
    network = start(recipe, tokenizer).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm = round(recipe.warmup * recipe.steps)
    scheduler = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warm, recipe.steps, min_lr_rate=0.1)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    hashes = {"documents": hash_documents(source), "stream": hash_stream(source, recipe)}
    key = " ".join([recipe.fingerprint, *hashes.values()])
    checkpoint = Checkpoint(Path(folder) / "checkpoint.pt", key, parts, MiniatureError)
    curve = checkpoint.resume().get("curve", [])
    at = curve[-1] if curve else {"step": 0, "tokens": 0, "seconds": 0.0}
    every, since, tokens, total = max(1, recipe.steps // checkpoints), time.perf_counter(), at["tokens"], []
    bar = tqdm(range(at["step"], recipe.steps), desc=f"width {recipe.width}", unit="step", leave=False, disable=None)
    for step in bar:
        batch = [(each.kind, *encode(tokenizer, each, recipe)) for each in draw_batch(source, recipe, step)]
        weight, value = sum(weights.sum() for *_, weights in batch), 0.0
        for kind in dict.fromkeys(kind for kind, *_ in batch):  # episodes of a kind are of nearly the same length
            rows, weights = collate([row[1:] for row in batch if row[0] == kind])
            loss = (losses(network, rows, weights) * weights[:, 1:]).sum() / weight
            loss.backward()
            value += loss.item()
        tokens += sum(len(row) for _, row, _ in batch)
        if not np.isfinite(value):
            raise MiniatureError(f"the loss is {value} at step {step}: lower the recipe's rate of {recipe.rate}")
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        total.append(value)
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            bits = held_out_loss(network, tokenizer, held, recipe)
            taken = at["seconds"] + time.perf_counter() - since
            row = {"step": step + 1, "tokens": tokens, "seconds": round(taken, 1), "loss": float(np.mean(total))}
            curve.append({**row, **{f"bits_{kind}": each for kind, each in bits.items()}})
            checkpoint.save(curve=curve)
            total = []
    return Miniature(network.eval(), tokenizer, recipe, source.vignettes.documents, hashes, pd.DataFrame(curve))


def hash_documents(source: Source) -> str:
    """Returns the SHA-256 of the ids, texts and gold sets of all documents that episodes are made of."""
    known = hashlib.sha256(json.dumps(source.vignettes.documents[["id", "text"]].to_numpy().tolist()).encode())
    known.update(np.ascontiguousarray(source.vignettes.gold).tobytes())
    return known.hexdigest()


def hash_stream(source: Source, recipe: Recipe) -> str:
    """Returns the SHA-256 of the stream's first episodes: the same code draws the same."""
    first = itertools.islice(episodes.stream(source, MIX, recipe.seed + 2), HASHED)
    return hashlib.sha256(json.dumps([dataclasses.astuple(episode) for episode in first]).encode()).hexdigest()
