"""Reference rows of every alignment table: constants, the base rate, and TF-IDF with logistic regression."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import TfidfVectorizer

from mlutils.training.logistic import fit_logistic

STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # inverse regularisation tried for TF-IDF, scikit-learn's C
FOLDS = 3


def references(
    train_shares: ArrayLike, documents: int, single_label: bool = False
) -> dict[tuple[str, str], np.ndarray]:
    """Returns rows that know nothing of a document, by (model, method): constants and the base rate, (documents, L).

    train_shares: (D, L) of training documents. Raises ValueError as `base_rate` does.
    """
    labels = np.shape(train_shares)[1]
    values = {"uniform": 1 / labels} if single_label else {"zeros": 0.0, "constant_0.1": 0.1}
    rows = {("", name): constant(value, documents, labels) for name, value in values.items()}
    return rows | {("", "base_rate"): base_rate(train_shares, documents)}


def constant(value: float, documents: int, labels: int) -> np.ndarray:
    """Returns the same probability for every label of every document, (documents, labels).

    Raises ValueError for a value outside [0, 1]. Single-label sets take 1 / labels, their rows sum to one.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"a constant prediction must be in [0, 1]; got {value}")
    return np.full((documents, labels), float(value))


def base_rate(train_votes: ArrayLike, documents: int) -> np.ndarray:
    """Returns each label's mean vote share on train for every document, (documents, L).

    train_votes: (D, L), NaN rows (documents without votes) are left out. Raises ValueError as `tfidf` does.
    """
    return np.tile(_with_votes(train_votes)[0].mean(axis=0), (documents, 1))


def tfidf(
    train_texts: Sequence[str],
    train_votes: ArrayLike,
    test_texts: Sequence[str],
    seed: int = 0,
    single_label: bool = False,
    strengths: Sequence[float] = STRENGTHS,
    weights: ArrayLike | None = None,
) -> np.ndarray:
    """Returns label probabilities (documents, L) of test texts by TF-IDF and logistic regression on vote shares.

    Words and pairs of words, sublinear counts, two documents at least; regressions as `logistic.fit_logistic`.
    train_texts: N texts; train_votes: (N, L) in [0, 1], NaN rows are left out; weights: (N,) of the documents. Raises
    ValueError where texts and votes differ in number or fewer documents than folds remain.
    """
    train_texts, test_texts = list(train_texts), list(test_texts)
    if len(train_texts) != len(train_votes):
        raise ValueError(f"{len(train_texts)} train texts but {len(train_votes)} rows of votes")
    votes, kept = _with_votes(train_votes)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform([train_texts[row] for row in kept])
    weights = None if weights is None else np.asarray(weights, dtype=float)[kept]
    wanted = vectorizer.transform(test_texts)
    return fit_logistic(features, votes, wanted, single_label, strengths, FOLDS, seed, weights)[0]


def _with_votes(votes):
    """Returns the rows that have votes and their numbers."""
    votes = np.asarray(votes, dtype=float)
    if votes.ndim != 2:
        raise ValueError(f"train votes must have shape (D, L); got {votes.shape}")
    kept = np.flatnonzero(~np.isnan(votes).any(axis=1))
    if not kept.size:
        raise ValueError("no train document has votes: load a corpus with annotators for the trained rows")
    if (votes[kept] < 0).any() or (votes[kept] > 1).any():
        raise ValueError("train votes must be shares of annotators in [0, 1], not counts")
    return votes[kept], kept
