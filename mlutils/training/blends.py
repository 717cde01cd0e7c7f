"""Our best supervised row: encoders and TF-IDF blended on train documents that none of them was trained on.

Two things are fitted there and nowhere else: how much each view counts, and a calibration for the *design* of
the test set. The paper's documents are even over {no, one, several labels} x {agree, disagree}, so labels are far
more frequent there than in train; weights that give the held-out train documents the same design move the
offsets accordingly. The loss is NLL + l1 x L1: with NLL alone probabilities are means of votes, whose L1 is
needlessly large where nearly all votes are 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.model_selection import KFold

from mlutils import metrics
from mlutils.corpora import Corpus
from mlutils.training import baselines, encoder
from mlutils.training.encoder import Recipe

WEIGHINGS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of L1 beside NLL, tried on held-out documents
SMALL = 1e-4  # of the smoothed |q - H|, sqrt((q - H)^2 + SMALL), which has a gradient at 0


@dataclass(frozen=True)
class Blend:
    """A fitted blend: logit = sum of weight x view's logit + offset + the label's own (shrunk) offset; weights >= 0."""

    views: tuple[str, ...]
    weights: np.ndarray  # (V,)
    offset: float
    offsets: np.ndarray  # (L,)
    single_label: bool
    l1: float = 0.0  # weight of L1 in the loss


def fit(
    views: Mapping[str, np.ndarray], votes, weights=None, l1: float = 1.0, ridge: float = 5.0, single_label=False
) -> Blend:
    """Returns the blend with the lowest weighted NLL + l1 x L1 against vote shares.

    views: name -> probabilities (D, L), of documents that no view was trained on; votes: (D, L); weights: (D,)
    of the documents. ridge: of the labels' own offsets. Raises ValueError for shapes that differ, missing
    numbers, or no view.
    """
    votes = np.asarray(votes, dtype=float)
    features = _features(views, votes.shape, single_label)
    if np.isnan(votes).any():
        raise ValueError("votes are missing in some documents: keep those with votes (Corpus.has_votes)")
    weights = np.ones(len(votes)) if weights is None else np.asarray(weights, dtype=float) / np.mean(weights)
    count = len(features)

    def loss(x):
        logits = np.tensordot(x[:count], features, axes=1) + x[count] + x[count + 1 :]
        if single_label:
            q = softmax(logits, axis=1)
            nll = -(votes * log_softmax(logits, axis=1)).sum(axis=1)
            slope = q * votes.sum(axis=1, keepdims=True) - votes
        else:
            q = expit(logits)
            nll = (np.logaddexp(0, logits) - votes * logits).sum(axis=1)
            slope = q - votes
        distance = np.sqrt((q - votes) ** 2 + SMALL)
        by_q = l1 * (q - votes) / distance
        slope = slope + q * (by_q - (q * by_q).sum(axis=1, keepdims=True) if single_label else by_q * (1 - q))
        slope = slope * weights[:, None]
        value = (weights * (nll + l1 * distance.sum(axis=1))).sum() + ridge * (x[count + 1 :] ** 2).sum()
        by_view = [(slope * feature).sum() for feature in features]
        return value, np.concatenate([by_view, [slope.sum()], slope.sum(axis=0) + 2 * ridge * x[count + 1 :]])

    start = np.concatenate([np.full(count, 1 / count), np.zeros(1 + votes.shape[1])])
    # Views are much alike: free weights would set one against the other.
    bounds = [(0, None)] * count + [(None, None)] * (1 + votes.shape[1])
    x = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Blend(tuple(views), x[:count], float(x[count]), x[count + 1 :], single_label, l1)


def apply(blend: Blend, views: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the blend's probabilities (D, L). Raises ValueError where the views are not those it was fitted on."""
    if tuple(views) != blend.views:
        raise ValueError(f"the blend was fitted on views {list(blend.views)}, in this order; got {list(views)}")
    shape = np.shape(views[blend.views[0]])
    logits = np.tensordot(blend.weights, _features(views, shape, blend.single_label), axes=1)
    logits = logits + blend.offset + blend.offsets
    return softmax(logits, axis=1) if blend.single_label else expit(logits)


def fit_best(
    views: Mapping[str, np.ndarray], votes, weights=None, single_label=False, weighings=WEIGHINGS, folds=5, seed=0
) -> Blend:
    """Returns the blend whose weight of L1 gives the best mean of NLL and L1, each over that of the base rate.

    The weight is chosen by cross-validation on these documents. Arguments and errors as `fit`.
    """
    votes = np.asarray(votes, dtype=float)
    weights = np.ones(len(votes)) if weights is None else np.asarray(weights, dtype=float)
    nll = metrics.nll_single if single_label else metrics.nll
    base = np.tile(np.average(votes, axis=0, weights=weights), (len(votes), 1))

    def loss(l1):
        held_out = np.empty(votes.shape)
        for fitted, held in KFold(folds, shuffle=True, random_state=seed).split(votes):
            blend = fit({k: v[fitted] for k, v in views.items()}, votes[fitted], weights[fitted], l1, 5.0, single_label)
            held_out[held] = apply(blend, {k: v[held] for k, v in views.items()})
        means = [
            [np.average(score(q, votes), weights=weights) for q in (held_out, base)] for score in (nll, metrics.l1)
        ]
        return sum(ours / max(theirs, 1e-9) for ours, theirs in means)

    return fit(views, votes, weights, min(weighings, key=loss), single_label=single_label)


def train_views(
    corpus: Corpus,
    asked: Sequence[Corpus],
    recipes: Mapping[str, Recipe],
    held_out: Corpus,
    folder: Path | None = None,
    weights: np.ndarray | None = None,
) -> list[dict[str, np.ndarray]]:
    """Returns label probabilities of each asked corpus by name: an encoder a recipe, a frozen encoder, and TF-IDF.

    None of them is trained on asked or held-out documents. weights: (N,) of the train documents, e.g. of `thin`.
    folder: for checkpoints. Raises EncoderError as `encoder.train` does.
    """
    found: dict[str, list[np.ndarray]] = {}  # by name, one array an asked corpus
    for name, recipe in recipes.items():
        place = None if folder is None else Path(folder) / name
        fitted = encoder.train(corpus, asked, recipe, place, weights, held_out)
        found[name] = [fitted.predict(each.documents["text"]) for each in asked]
    first = next(iter(recipes.values()))
    found["frozen_encoder"] = encoder.frozen(corpus, asked, first.encoder, first.max_tokens, first.seed, weights)
    texts = [text for each in asked for text in each.documents["text"]]
    words = baselines.tfidf(
        corpus.documents["text"], corpus.votes, texts, first.seed, corpus.single_label, weights=weights
    )
    found["tfidf"] = np.split(words, np.cumsum([len(each) for each in asked])[:-1])
    return [{name: arrays[i] for name, arrays in found.items()} for i in range(len(asked))]


def thin(corpus: Corpus, share: float, seed: int = 0) -> tuple[Corpus, np.ndarray]:
    """Returns the corpus with only a share of the documents on which all annotators agree that no label holds,
    and weights (D,) that make up for those left out: less to train on, nearly nothing lost.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share}")
    easy = np.flatnonzero(corpus.has_votes & (corpus.votes == 0).all(axis=1))
    left_out = np.random.default_rng(seed).permutation(easy)[round(share * len(easy)) :]
    weights = np.ones(len(corpus))
    weights[easy] = len(easy) / max(1, len(easy) - len(left_out))
    kept = np.setdiff1d(np.arange(len(corpus)), left_out)
    return corpus.take(kept), weights[kept]


def _features(views, shape, single_label):
    """Returns logits (V, D, L), log probabilities for single-label sets."""
    if not views:
        raise ValueError("no view to blend: give at least one, name -> probabilities (D, L)")
    found = []
    for name, view in views.items():
        view = np.asarray(view, dtype=float)
        if view.shape != tuple(shape) or not ((view >= 0) & (view <= 1)).all():
            raise ValueError(f"view {name} must be probabilities of shape {tuple(shape)}; got shape {view.shape}")
        q = np.clip(view, 1e-6, 1 - 1e-6)
        found.append(np.log(q) if single_label else np.log(q) - np.log1p(-q))
    return np.stack(found)
