"""Reference rows of every alignment table: constants, the base rate, and TF-IDF with logistic regression on
soft votes.
"""

import numpy as np
from scipy.special import xlogy
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # inverse regularisation tried for TF-IDF, scikit-learn's C


def zeros(documents, labels) -> np.ndarray:
    """Returns the row "all zeros": probability 0 for every label, (documents, labels)."""
    return constant(0.0, documents, labels)


def constant(value, documents, labels) -> np.ndarray:
    """Returns the same probability for every label of every document, (documents, labels).

    Raises ValueError for a value outside [0, 1]. Single-label sets take 1 / labels, their rows sum to one.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"a constant prediction must be in [0, 1]; got {value}")
    return np.full((documents, labels), float(value))


def base_rate(train_votes, documents) -> np.ndarray:
    """Returns each label's mean vote share on train for every document, (documents, L).

    train_votes: (D, L), NaN rows (documents without votes) are left out. Raises ValueError as `tfidf` does.
    """
    return np.tile(_with_votes(train_votes)[0].mean(axis=0), (documents, 1))


def constant_labels(train_votes) -> np.ndarray:
    """Returns which labels no annotator or every annotator chose on train, bool (L,): `tfidf` gives them the
    base rate.
    """
    rates = _with_votes(train_votes)[0].mean(axis=0)
    return (rates == 0) | (rates == 1)


def tfidf(
    train_texts,
    train_votes,
    test_texts,
    seed=0,
    single_label=False,
    strengths=STRENGTHS,
    folds=3,
    tuning_documents=4_000,
) -> np.ndarray:
    """Returns label probabilities by TF-IDF and logistic regression on vote shares (trained reference row,
    section 6).

    Words and pairs of words, sublinear counts, two documents at least. Each train document stands once with
    each answer, weighted by the share of annotators who gave it: yes and no for each label on its own, or, in
    single-label sets, the classes of one multinomial model. One strength for all labels, by cross-validated
    NLL on at most `tuning_documents` documents of train. Labels that train never or always shows get their
    base rate (`constant_labels`). train_texts: D texts; train_votes: (D, L) in [0, 1], NaN rows are left out.
    Returns (len(test_texts), L). Raises ValueError where texts and votes differ in number or fewer documents
    than folds remain.
    """
    train_texts, test_texts = list(train_texts), list(test_texts)
    if len(train_texts) != len(train_votes):
        raise ValueError(f"{len(train_texts)} train texts but {len(train_votes)} rows of votes")
    votes, kept = _with_votes(train_votes)
    if len(votes) < folds:
        raise ValueError(f"{len(votes)} train documents with votes are too few for {folds} folds")
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform([train_texts[row] for row in kept])
    predict = _predict_classes if single_label else _predict_labels
    strength = _choose_strength(predict, features, votes, single_label, strengths, folds, tuning_documents, seed)
    return predict(features, votes, vectorizer.transform(test_texts), strength)


def _choose_strength(predict, features, votes, single_label, strengths, folds, tuning_documents, seed):
    """Returns the strength with the lowest cross-validated NLL."""
    if len(strengths) == 1:
        return strengths[0]
    rows = np.random.default_rng(seed).permutation(len(votes))[:tuning_documents]
    features, votes = features[rows], votes[rows]
    losses = np.zeros(len(strengths))
    for fit, held_out in KFold(folds).split(rows):
        for i, strength in enumerate(strengths):
            q = np.clip(predict(features[fit], votes[fit], features[held_out], strength), 1e-8, 1 - 1e-8)
            losses[i] -= xlogy(votes[held_out], q).sum()
            if not single_label:
                losses[i] -= xlogy(1 - votes[held_out], 1 - q).sum()
    return strengths[int(losses.argmin())]


def _predict_labels(features, votes, test_features, strength):
    """Returns one weighted logistic regression a label, (D_test, L)."""
    predicted = np.tile(votes.mean(axis=0), (test_features.shape[0], 1))
    for label in np.flatnonzero((predicted[0] > 0) & (predicted[0] < 1)):
        shares = np.stack([1 - votes[:, label], votes[:, label]], axis=1)
        predicted[:, label] = _fit(features, shares, strength).predict_proba(test_features)[:, 1]
    return predicted


def _predict_classes(features, votes, test_features, strength):
    """Returns one weighted multinomial regression over all classes, (D_test, L)."""
    predicted = np.zeros((test_features.shape[0], votes.shape[1]))
    used = np.flatnonzero(votes.sum(axis=0) > 0)
    if len(used) == 1:
        predicted[:, used] = 1.0
        return predicted
    predicted[:, used] = _fit(features, votes[:, used], strength).predict_proba(test_features)
    return predicted


def _fit(features, shares, strength):
    """Fits a regression in which document d stands with class c at weight shares[d, c]; weights of zero are
    left out.
    """
    rows, classes = np.nonzero(shares)
    # scikit-learn divides the loss by the weights: a coarser tolerance stops where NLL is still 20 % too high.
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-5)
    return model.fit(features[rows], classes, sample_weight=shares[rows, classes])


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
