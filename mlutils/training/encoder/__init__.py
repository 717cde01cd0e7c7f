"""Supervised rows: an encoder finetuned on label names and text (Demux, section 5 of the paper) or on text alone, and
frozen with logistic regression. Targets are gold sets, as in the paper, or annotators' vote shares.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mlutils import metrics, sources
from mlutils.corpora import Corpus
from mlutils.training import baselines
from mlutils.training.encoder import samples
from mlutils.training.encoder.loop import fit, predict_logits
from mlutils.training.encoder.network import EncoderError, Inputs, Network, base_offsets, layers
from mlutils.training.logistic import fit_logistic

HEADS, TARGETS = ("pooled", "demux"), ("votes", "aggregate")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an encoder is trained.

    The paper's Demux: head="demux", targets="aggregate", epochs=20, encoder_rate=2e-5, head_rate=2e-5,
    encoder="bert-base-uncased".
    """

    encoder: str = "minilm"  # a name in data/sources.yaml, a hub id, or a folder
    head: str = "pooled"  # pooled | demux
    targets: str = "votes"  # votes (annotators' shares) | aggregate (gold 0/1)
    epochs: int = 3
    encoder_rate: float = 1e-4  # learning rate of the last layer
    head_rate: float = 1e-3
    layer_decay: float = 0.9  # each layer below learns this much slower
    frozen_layers: int = 0  # embeddings and so many first layers stay as they are (0: nothing does)
    batch: int = 16
    max_tokens: int = 128
    warmup: float = 0.1  # share of steps
    dropout: float = 0.1  # before the scores; none inside the encoder, where it takes a quarter of a CPU's time
    intra: float = 0.2  # weight of Demux's intra-label loss (head "demux", multi-label)
    half: bool = False  # bfloat16 inside the encoder
    seed: int = 0

    def __post_init__(self):
        for name, allowed in (("head", HEADS), ("targets", TARGETS)):
            if getattr(self, name) not in allowed:
                raise EncoderError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(allowed)}")
        if self.epochs < 1 or self.batch < 1:
            raise EncoderError(f"epochs={self.epochs} and batch={self.batch} must be 1 or more")


@dataclasses.dataclass
class Encoder:
    """A trained encoder, which predicts label probabilities."""

    network: Network
    inputs: Inputs
    recipe: Recipe
    single_label: bool
    temperature: float
    base_rates: np.ndarray  # (L,), of the targets on train
    constant: np.ndarray  # bool (L,), labels that train never or always shows: predicted at their base rate
    losses: list[float]  # of each step

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Returns logits (D, L) of texts, before the temperature."""
        return predict_logits(self.network, self.inputs, texts, self.recipe.half)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Returns label probabilities (D, L); rows sum to one for a single-label corpus."""
        scaled = self.logits(texts) / self.temperature
        if self.single_label:
            return softmax(np.where(self.constant & (self.base_rates <= 0), -np.inf, scaled), axis=1)
        return np.where(self.constant, self.base_rates, expit(scaled))


def train(
    corpus: Corpus,
    tested: Corpus | Sequence[Corpus],
    recipe: Recipe = Recipe(),
    folder: Path | None = None,
    weights: ArrayLike | None = None,
    held_out: Corpus | None = None,
) -> Encoder:
    """Returns an encoder trained on a corpus, to be tested on others (rows "BERT (Demux)" and "encoder").

    folder: where checkpoints are kept, from which a killed run goes on; one of another recipe or other documents is
    refused. weights: (N,) of the documents in the loss. Documents without targets (no votes, or no majority) are left
    out. held_out: further documents with votes, on which a temperature is fitted (not with aggregate targets, as in the
    paper). Raises EncoderError where train shares a document with the others (id, or text but for case and white
    space), labels differ, nothing is left to train on, or the loss is not finite.
    """
    tested = [tested] if isinstance(tested, Corpus) else list(tested)
    samples.check_disjoint(corpus, [*tested, *([] if held_out is None else [held_out])])
    torch.manual_seed(recipe.seed)
    targets = corpus.votes if recipe.targets == "votes" else corpus.gold.astype(float)
    rows = np.flatnonzero(~np.isnan(targets).any(axis=1))
    if corpus.single_label:
        rows = rows[targets[rows].sum(axis=1) > 0]  # a post without a majority has no aggregate target
    weights = np.ones(len(corpus)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (len(corpus),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise EncoderError(f"weights must be {len(corpus)} numbers of 0 or more; got shape {weights.shape}")
    if len(rows) < 2 or not weights[rows].sum():
        raise EncoderError(
            f"{corpus.name}: {len(rows)} of {len(corpus)} documents have {recipe.targets} as targets, "
            "too few to train on; take targets='aggregate' or a corpus with annotators"
        )

    offsets, constant = base_offsets(targets[rows], weights[rows], corpus.single_label)
    inputs, network = _build(recipe, corpus.labels, offsets)
    fitted = Encoder(
        network=network,
        inputs=inputs,
        recipe=recipe,
        single_label=corpus.single_label,
        temperature=1.0,
        base_rates=np.average(targets[rows], axis=0, weights=weights[rows]),
        constant=constant,
        losses=fit(network, inputs, corpus, targets, weights, rows, recipe, folder),
    )
    if held_out is not None and recipe.targets == "votes":
        voted = held_out.take(held_out.has_votes)
        logits = fitted.logits(voted.documents["text"])
        fitted.temperature = fit_temperature(logits, voted.votes, corpus.single_label)
    return fitted


def train_views(
    corpus: Corpus,
    asked: Sequence[Corpus],
    recipes: Mapping[str, Recipe],
    held_out: Corpus,
    folder: Path | None = None,
    weights: np.ndarray | None = None,
) -> list[dict[str, np.ndarray]]:
    """Returns label probabilities of each asked corpus by name: an encoder a recipe, a frozen encoder, and TF-IDF.

    None of them is trained on asked or held-out documents. weights: (N,) of the train documents, e.g. of
    `samples.thin`.
    folder: for checkpoints. Raises EncoderError as `train` does.
    """
    found: dict[str, list[np.ndarray]] = {}  # by name, one array an asked corpus
    for name, recipe in recipes.items():
        place = None if folder is None else Path(folder) / name
        fitted = train(corpus, asked, recipe, place, weights, held_out)
        found[name] = [fitted.predict(each.documents["text"]) for each in asked]
    first = next(iter(recipes.values()))
    found["frozen_encoder"] = frozen(corpus, asked, first.encoder, first.max_tokens, first.seed, weights)
    texts = [text for each in asked for text in each.documents["text"]]
    words = baselines.tfidf(
        corpus.documents["text"], corpus.votes, texts, first.seed, corpus.single_label, weights=weights
    )
    found["tfidf"] = np.split(words, np.cumsum([len(each) for each in asked])[:-1])
    return [{name: arrays[i] for name, arrays in found.items()} for i in range(len(asked))]


def frozen(
    corpus: Corpus,
    tested: Sequence[Corpus],
    encoder: str = "minilm",
    max_tokens: int = 128,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> list[np.ndarray]:
    """Returns label probabilities (D, L) of each tested corpus by logistic regression on a frozen encoder's states.

    Features are a text's mean states, targets vote shares; one regression a label (single-label: one multinomial),
    strength by cross-validation on train. Documents without votes are left out; labels that train never or always shows
    get their base rate. Raises EncoderError as `train` does.
    """
    samples.check_disjoint(corpus, tested)
    corpus, kept = corpus.take(corpus.has_votes), corpus.has_votes
    if len(corpus) < 10:
        raise EncoderError(f"{corpus.name}: {len(corpus)} documents with votes are too few to fit and validate on")
    states = [embed(each.documents["text"], encoder, max_tokens) for each in (corpus, *tested)]
    weights = None if weights is None else np.asarray(weights, dtype=float)[kept]
    wanted = np.concatenate(states[1:])
    found = fit_logistic(states[0], corpus.votes, wanted, corpus.single_label, seed=seed, weights=weights)[0]
    return np.split(found, np.cumsum([len(each) for each in tested])[:-1])


def embed(texts: Sequence[str], encoder: str = "minilm", max_tokens: int = 128) -> np.ndarray:
    """Returns the L2-normalised mean of each text's final states, (D, H)."""
    inputs, network = _build(Recipe(encoder=encoder, max_tokens=max_tokens), ("any",), np.zeros(1))
    network.score = torch.nn.Identity()
    states = predict_logits(network, inputs, texts)
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def split_names(encoder: str, labels: Sequence[str]) -> list[str]:
    """Returns the labels whose name the encoder's vocabulary cuts into pieces: Demux reads the mean of their states."""
    return Inputs(_load(AutoTokenizer, encoder), labels, "demux", 3).split


def fit_temperature(logits: ArrayLike, shares: ArrayLike, single_label: bool = False) -> float:
    """Returns the temperature with the lowest NLL of logits / temperature (D, L) against vote shares."""

    def loss_at(log_temperature):
        scaled = logits / np.exp(log_temperature)
        predicted = softmax(scaled, axis=1) if single_label else expit(scaled)
        score = metrics.nll_single if single_label else metrics.nll
        return float(score(predicted, shares).mean())

    return float(np.exp(minimize_scalar(loss_at, bounds=(-2, 2), method="bounded").x))


def _load(kind, name, **options):
    """Returns what a class of transformers loads of an encoder; raises EncoderError where it cannot."""
    try:
        return kind.from_pretrained(sources.fetch(name) if name in sources.catalogue() else name, **options)
    except OSError as error:
        raise EncoderError(f"the encoder {name!r} could not be loaded: {str(error).splitlines()[0]}") from error


def _build(recipe, labels, offsets):
    """Returns the inputs and the untrained network of a recipe, whose labels start at these offsets (L,)."""
    inputs = Inputs(_load(AutoTokenizer, recipe.encoder), labels, recipe.head, recipe.max_tokens)
    config = _load(AutoConfig, recipe.encoder)
    for each in ("attention_probs_dropout_prob", "hidden_dropout_prob", "attention_dropout"):
        if hasattr(config, each):
            setattr(config, each, 0.0)
    encoder = _load(AutoModel, recipe.encoder, config=config, dtype=torch.float32, use_safetensors=True)
    positions = getattr(encoder.config, "max_position_embeddings", np.inf)
    if recipe.max_tokens + inputs.first_segment > positions:
        raise EncoderError(
            f"max_tokens={recipe.max_tokens} and the label names exceed the encoder's {positions} tokens"
        )
    stack = layers(encoder)
    if not 0 <= recipe.frozen_layers <= len(stack):
        raise EncoderError(f"frozen_layers={recipe.frozen_layers}: the encoder has {len(stack)} layers")
    if recipe.frozen_layers:
        for part in (encoder.embeddings, *stack[: recipe.frozen_layers]):
            part.requires_grad_(False)
    network = Network(encoder, inputs.spans, offsets, recipe.dropout)
    return inputs, network.to("cuda" if torch.cuda.is_available() else "cpu")
