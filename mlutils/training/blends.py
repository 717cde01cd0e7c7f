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
from sklearn.feature_extraction.text import TfidfVectorizer

from mlutils.corpora import Corpus
from mlutils.training import encoder
from mlutils.training.encoder import EncoderError, Recipe, design_weights
from mlutils.training.probes import fit_logistic

SMALL = 1e-4  # of the smoothed |q - H|, sqrt((q - H)^2 + SMALL), which has a gradient at 0
DESIGNS = ("natural", "even")


@dataclass(frozen=True)
class Blend:
    """A fitted blend: logit = sum of weight x view's logit + offset + the label's own (shrunk) offset."""

    views: tuple[str, ...]
    weights: np.ndarray  # (V,)
    offset: float
    offsets: np.ndarray  # (L,)
    single_label: bool


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
    x = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Blend(tuple(views), x[:count], float(x[count]), x[count + 1 :], single_label)


def apply(blend: Blend, views: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the blend's probabilities (D, L). Raises ValueError where the views are not those it was fitted on."""
    if tuple(views) != blend.views:
        raise ValueError(f"the blend was fitted on views {list(blend.views)}, in this order; got {list(views)}")
    shape = np.shape(views[blend.views[0]])
    logits = np.tensordot(blend.weights, _features(views, shape, blend.single_label), axes=1)
    logits = logits + blend.offset + blend.offsets
    return softmax(logits, axis=1) if blend.single_label else expit(logits)


def train(
    corpus: Corpus,
    tested: Sequence[Corpus],
    designs: Sequence[str],
    recipes: Sequence[Recipe],
    folder: Path | None = None,
    weights: np.ndarray | None = None,
    l1: float = 1.0,
    pool: int | None = None,
) -> tuple[list[np.ndarray], list[Blend], list[dict[str, np.ndarray]]]:
    """Returns label probabilities (D, L) for each test set, the blend behind each, and the views that it blends.

    Trains an encoder a recipe and TF-IDF with logistic regression, all without the held-out train documents,
    and blends them on those. designs: how each test set was drawn, "natural" like train or "even" like the
    paper's (`encoder.design_weights`). weights: (D,) of the train documents, e.g. of `thin`. pool: how many
    documents the even ones were drawn from. folder: for checkpoints. Raises EncoderError as `encoder.train`
    does, and for recipes whose held-out parts or targets differ.
    """
    if len(designs) != len(tested) or not set(designs) <= set(DESIGNS):
        raise EncoderError(f"designs must name one of {', '.join(DESIGNS)} for each test set; got {list(designs)}")
    if len({recipe.held_out for recipe in recipes}) != 1 or not recipes[0].held_out:
        raise EncoderError("recipes of a blend need the same held_out, above 0: their views are blended there")
    if any(recipe.targets != "votes" for recipe in recipes):
        raise EncoderError("a blend is fitted on votes: take recipes with targets='votes'")
    weights = np.ones(len(corpus)) if weights is None else np.asarray(weights, dtype=float)
    texts = [list(each.documents["text"]) for each in tested]
    views = [{} for _ in range(1 + len(tested))]  # of the held-out documents, then of each test set
    for number, recipe in enumerate(recipes):
        place = None if folder is None else Path(folder) / f"encoder-{number}"
        fitted = encoder.train(corpus, tested, recipe, place, weights)
        held = fitted.held_out_rows
        for view, found in zip(views, [fitted.held_out_probabilities, *map(fitted.predict, texts)], strict=True):
            view[f"encoder-{number}"] = found
    held_texts = [corpus.documents["text"].iloc[row] for row in held]
    rest = np.setdiff1d(np.flatnonzero(corpus.has_votes), held)
    for view, found in zip(views, tfidf(corpus.take(rest), [held_texts, *texts], weights[rest]), strict=True):
        view["tfidf"] = found

    by_design = {"natural": weights, "even": design_weights(corpus, pool=pool, weights=weights)}
    blends = {
        design: fit(views[0], corpus.votes[held], by_design[design][held], l1, single_label=corpus.single_label)
        for design in set(designs)
    }
    found = [apply(blends[design], view) for design, view in zip(designs, views[1:], strict=True)]
    return found, [blends[design] for design in designs], views[1:]


def tfidf(corpus: Corpus, texts: Sequence[list[str]], weights=None, strengths=(3.0, 10.0, 30.0), folds=3):
    """Returns probabilities of each list of texts by TF-IDF and logistic regression on a corpus' votes."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform(corpus.documents["text"])
    wanted = vectorizer.transform([text for part in texts for text in part])
    found, _ = fit_logistic(features, corpus.votes, wanted, corpus.single_label, strengths, folds, weights=weights)
    return np.split(found, np.cumsum([len(part) for part in texts])[:-1])


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
