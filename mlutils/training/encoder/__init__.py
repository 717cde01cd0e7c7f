"""Supervised rows: an encoder finetuned on label names and text (Demux) or on text alone, and frozen with
logistic regression (section 5 of the paper; targets are gold sets or annotators' vote shares).
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mlutils import metrics, sources
from mlutils.corpora import Corpus
from mlutils.corpora.sampling import share_evenly, strata
from mlutils.training.encoder_loop import fit, layers, predict_logits
from mlutils.training.encoder_network import EncoderError, Inputs, Network, base_offsets
from mlutils.training.logistic import fit_logistic

HEADS, TARGETS = ("pooled", "demux"), ("votes", "aggregate")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an encoder is trained. The paper's Demux: head="demux", targets="aggregate", epochs=20,
    encoder_rate=2e-5, head_rate=2e-5, encoder="bert-base-uncased".
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
    """A trained encoder: predicts label probabilities, and says what was left out of training."""

    network: Network
    inputs: Inputs
    recipe: Recipe
    labels: tuple[str, ...]
    single_label: bool
    temperature: float
    base_rates: np.ndarray  # (L,), of the targets on train
    constant: np.ndarray  # bool (L,), labels that train never or always shows: predicted at their base rate
    losses: list[float]  # of each step
    counts: dict  # trained, without_targets: numbers of documents

    @property
    def constant_labels(self) -> list[str]:
        """Returns the labels predicted at their base rate."""
        return [label for label, each in zip(self.labels, self.constant, strict=True) if each]

    def logits(self, texts, batch=64) -> np.ndarray:
        """Returns logits (D, L) of texts, before the temperature."""
        return predict_logits(self.network, self.inputs.encode(texts), self.inputs, batch, self.recipe.half)

    def predict(self, texts) -> np.ndarray:
        """Returns label probabilities (D, L); rows sum to one for a single-label corpus."""
        return _probabilities(self.logits(texts), self.temperature, self.base_rates, self.constant, self.single_label)


def train(
    corpus: Corpus,
    tested: Corpus | Sequence[Corpus],
    recipe: Recipe = Recipe(),
    folder: Path | None = None,
    weights: np.ndarray | None = None,
    held_out: Corpus | None = None,
    checkpoint_every: int = 200,
) -> Encoder:
    """Returns an encoder trained on a corpus, to be tested on others (rows "BERT (Demux)" and "encoder").

    folder: where a checkpoint is kept every so many steps, from which a killed run goes on; a checkpoint of
    another recipe or other documents is refused. weights: (N,) of the documents in the loss. Documents
    without targets (no votes) are left out and counted. held_out: further documents with votes, on which a temperature
    is fitted (not with aggregate targets, as in the paper). Raises EncoderError where train shares a document with the
    others (id, or text but for case and white space), labels differ, nothing is left to train on, or the loss is not
    finite.
    """
    tested = [tested] if isinstance(tested, Corpus) else list(tested)
    check_disjoint(corpus, [*tested, *([] if held_out is None else [held_out])])
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
    sequences = inputs.encode(corpus.documents["text"])
    losses = fit(network, inputs, sequences, targets, corpus, weights, rows, recipe, folder, checkpoint_every)

    fitted = Encoder(
        network=network,
        inputs=inputs,
        recipe=recipe,
        labels=corpus.labels,
        single_label=corpus.single_label,
        temperature=1.0,
        base_rates=np.average(targets[rows], axis=0, weights=weights[rows]),
        constant=constant,
        losses=losses,
        counts={"trained": len(rows), "without_targets": len(corpus) - len(rows)},
    )
    if held_out is not None and recipe.targets == "votes":
        voted = held_out.take(held_out.has_votes)
        logits = fitted.logits(voted.documents["text"])
        fitted.temperature = fit_temperature(logits, voted.votes, single_label=corpus.single_label)
    return fitted


def frozen(
    corpus: Corpus,
    tested: Sequence[Corpus],
    encoder: str = "minilm",
    max_tokens: int = 128,
    seed: int = 0,
    weights=None,
) -> list[np.ndarray]:
    """Returns label probabilities (D, L) of each tested corpus: a frozen encoder's mean states and logistic
    regression on soft votes.

    One regression a label (single-label: one multinomial), strength by cross-validation on train. Documents
    without votes are left out; labels that train never or always shows get their base rate. Raises
    EncoderError as `train` does.
    """
    check_disjoint(corpus, tested)
    corpus, kept = corpus.take(corpus.has_votes), corpus.has_votes
    if len(corpus) < 10:
        raise EncoderError(f"{corpus.name}: {len(corpus)} documents with votes are too few to fit and validate on")
    states = [embed(each.documents["text"], encoder, max_tokens) for each in (corpus, *tested)]
    weights = None if weights is None else np.asarray(weights, dtype=float)[kept]
    wanted = np.concatenate(states[1:])
    found = fit_logistic(states[0], corpus.votes, wanted, corpus.single_label, seed=seed, weights=weights)[0]
    return np.split(found, np.cumsum([len(each) for each in tested])[:-1])


def embed(texts, encoder: str = "minilm", max_tokens: int = 128, batch: int = 64) -> np.ndarray:
    """Returns the L2-normalised mean of each text's final states, (D, H)."""
    inputs, network = _build(Recipe(encoder=encoder, max_tokens=max_tokens), ("any",), np.zeros(1))
    network.score = torch.nn.Identity()
    states = predict_logits(network, inputs.encode(texts), inputs, batch)
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def split_names(encoder: str, labels: Sequence[str]) -> list[str]:
    """Returns the labels whose name the encoder's vocabulary cuts into pieces: Demux reads the mean of their states."""
    return Inputs(_tokenizer(encoder), labels, "demux", 3).split


def check_disjoint(corpus: Corpus, tested: Sequence[Corpus]) -> None:
    """Raises EncoderError where a training document is tested, by id or by text, or where labels differ."""
    for other in tested:
        if other.labels != corpus.labels:
            raise EncoderError(f"labels differ: trained on {corpus.labels}, tested on {other.labels}")
        for kind, plain in (("id", str), ("text", lambda text: re.sub(r"\s+", " ", text).strip().casefold())):
            known = set(map(plain, other.documents[kind]))
            shared = [each for each in corpus.documents[kind] if plain(each) in known]
            if shared:
                raise EncoderError(
                    f"{len(shared)} training documents are also tested, by {kind}, e.g. {shared[0][:60]!r}; "
                    "take corpora.training_documents(tested), and split_training of that"
                )


def design_weights(corpus: Corpus, size: int = 200, pool: int | None = None, weights=None) -> np.ndarray:
    """Returns weights (D,), mean 1, under which a natural sample looks like the paper's main test set.

    That set is as even as possible over {no, one, several labels} x {agree, disagree} (section 2 of the
    digest): a stratum's weight is its share of such a sample of `size` documents, drawn from `pool` documents
    (not given: as many as here) in which strata are as frequent as here, over its share here. Only the
    published design is used, no test document. weights: (D,) under which this sample is natural, if it was
    thinned. Documents in no stratum weigh 0.
    """
    stratum = strata(corpus)
    natural = np.ones(len(corpus)) if weights is None else np.asarray(weights, dtype=float)
    found = np.unique(stratum[stratum >= 0])
    sizes = np.array([natural[stratum == each].sum() for each in found])
    room = sizes * (1 if pool is None else pool / sizes.sum())
    quotas = share_evenly([max(1, round(each)) for each in room], size)
    by_stratum = dict(zip(found, np.array(quotas) / sizes, strict=True))
    designed = natural * [by_stratum.get(each, 0.0) for each in stratum]
    return designed / designed.mean()


def fit_temperature(logits, shares, weights=None, single_label=False) -> float:
    """Returns the temperature with the lowest NLL of logits / temperature (D, L) against vote shares."""
    weights = np.ones(len(logits)) if weights is None else weights

    def loss_at(log_temperature):
        scaled = logits / np.exp(log_temperature)
        predicted = softmax(scaled, axis=1) if single_label else expit(scaled)
        score = metrics.nll_single if single_label else metrics.nll
        return float(np.average(score(predicted, shares), weights=weights))

    return float(np.exp(minimize_scalar(loss_at, bounds=(-2, 2), method="bounded").x))


def _place(name):
    return sources.fetch(name) if name in sources.catalogue() else name


def _tokenizer(name):
    try:
        return AutoTokenizer.from_pretrained(_place(name))
    except OSError as error:
        raise EncoderError(f"the encoder {name!r} could not be loaded: {str(error).splitlines()[0]}") from error


def _build(recipe, labels, offsets):
    name, tokenizer = recipe.encoder, _tokenizer(recipe.encoder)
    try:
        config = AutoConfig.from_pretrained(_place(name))
        for each in ("attention_probs_dropout_prob", "hidden_dropout_prob", "attention_dropout"):
            if hasattr(config, each):
                setattr(config, each, 0.0)
        encoder = AutoModel.from_pretrained(_place(name), config=config, dtype=torch.float32, use_safetensors=True)
    except OSError as error:
        raise EncoderError(f"the encoder {name!r} could not be loaded: {str(error).splitlines()[0]}") from error
    inputs = Inputs(tokenizer, labels, recipe.head, recipe.max_tokens)
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


def _probabilities(logits, temperature, rates, constant, single_label):
    scaled = logits / temperature
    if single_label:
        scaled = np.where(constant & (rates <= 0), -np.inf, scaled)
        return softmax(scaled, axis=1)
    return np.where(constant, rates, expit(scaled))
