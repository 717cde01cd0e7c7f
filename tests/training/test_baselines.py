import os

import numpy as np
import pytest

from mlutils import corpora, metrics
from mlutils.training import baselines

WORDS = {"joy": ["happy", "glad", "delighted"], "fear": ["afraid", "scared", "worried"]}
FILLER = ["today", "the", "train", "home", "again", "with", "my", "friend", "from", "work"]


def posts(documents, seed):
    """Returns texts in which words tell the labels, and the votes of three annotators who mostly notice."""
    rng = np.random.default_rng(seed)
    present = rng.random((documents, 2)) < 0.4
    texts = [
        " ".join(
            [
                *rng.choice(FILLER, 6),
                *(rng.choice(WORDS[w]) for w, there in zip(WORDS, row, strict=True) if there),
            ]
        )
        for row in present
    ]
    return texts, rng.binomial(3, np.where(present, 0.8, 0.1)) / 3, present


def test_constants():
    assert (baselines.constant(0.1, 2, 3) == np.full((2, 3), 0.1)).all()
    with pytest.raises(ValueError, match="1.5"):
        baselines.constant(1.5, 2, 3)


def test_references_are_the_constants_of_a_kind_of_set():
    shares = np.array([[1.0, 0.0], [0.5, 0.5]])
    rows = baselines.references(shares, 3)
    assert {name: values[2].tolist() for (_, name), values in rows.items()} == {
        "zeros": [0, 0],
        "constant_0.1": [0.1, 0.1],
        "base_rate": [0.75, 0.25],
    }
    assert [name for _, name in baselines.references(shares, 3, single_label=True)] == ["uniform", "base_rate"]
    assert (baselines.references(shares, 3, single_label=True)["", "uniform"] == 0.5).all()


def test_base_rate_leaves_out_documents_without_votes():
    votes = np.array([[1.0, 0.0], [0.5, 0.0], [np.nan, np.nan]])
    assert baselines.base_rate(votes, 3) == pytest.approx(np.array([[0.75, 0.0]] * 3))
    with pytest.raises(ValueError, match="no train document has votes"):
        baselines.base_rate(votes[2:], 1)
    with pytest.raises(ValueError, match="not counts"):
        baselines.base_rate(votes * 3, 1)


def test_tfidf_learns_vote_shares():
    train, votes, _ = posts(600, 0)
    test, test_votes, present = posts(300, 1)
    predicted = baselines.tfidf(train, votes, test)
    assert predicted.shape == (300, 2)
    distance = metrics.l1(predicted, np.where(present, 0.8, 0.1)).mean()
    assert distance < 0.2  # shares are learnt: the right majorities would be 0.3 away
    base = baselines.base_rate(votes, 300)
    assert metrics.nll(predicted, test_votes).mean() < metrics.nll(base, test_votes).mean() - 0.3
    assert (predicted == baselines.tfidf(train, votes, test)).all()


def test_tfidf_gives_constant_labels_their_base_rate_and_skips_missing_votes():
    train, votes, _ = posts(120, 0)
    votes = np.column_stack([votes[:, 0], np.zeros(120), np.ones(120)])
    gaps = np.vstack([votes, np.full((2, 3), np.nan)])
    predicted = baselines.tfidf([*train, "no votes", "none here"], gaps, train[:5], strengths=(1.0,))
    assert (predicted[:, 1] == 0).all() and (predicted[:, 2] == 1).all()
    assert predicted == pytest.approx(baselines.tfidf(train, votes, train[:5], strengths=(1.0,)))


def test_tfidf_single_label():
    rng = np.random.default_rng(0)
    words = [*WORDS.values(), ["calm", "plain", "usual"]]

    def draw(documents):
        label = rng.integers(0, 3, documents)
        texts = [" ".join([*rng.choice(FILLER, 5), rng.choice(words[i])]) for i in label]
        return texts, rng.multinomial(3, 0.7 * np.eye(3)[label] + 0.1) / 3, label

    train, votes, _ = draw(600)
    test, _, label = draw(200)
    predicted = baselines.tfidf(train, votes, test, single_label=True)
    assert predicted.sum(axis=1) == pytest.approx(1)
    assert metrics.l1(predicted, 0.7 * np.eye(3)[label] + 0.1).mean() < 0.25  # right majorities: 0.4
    never = np.column_stack([votes[:, 0], votes[:, 1] + votes[:, 2], np.zeros(600)])
    assert (baselines.tfidf(train, never, test, single_label=True)[:, 2] == 0).all()


def test_tfidf_refuses():
    texts, votes, _ = posts(10, 0)
    with pytest.raises(ValueError, match="9 train texts but 10"):
        baselines.tfidf(texts[:9], votes, texts)
    with pytest.raises(ValueError, match="too few for 3 folds"):
        baselines.tfidf(texts[:2], votes[:2], texts)


@pytest.mark.skipif(not os.environ.get("ONE_LABEL_MIRROR"), reason="no mirror")
def test_tfidf_on_mfrc():
    train, test = corpora.load("mfrc", split="train"), corpora.load("mfrc", split="dev")
    test = test.take(test.has_votes)
    predicted = baselines.tfidf(train.documents.text, train.votes, test.documents.text)
    base = baselines.base_rate(train.votes, len(test))
    assert metrics.nll(predicted, test.votes).mean() < metrics.nll(base, test.votes).mean() - 0.1
    assert metrics.example_f1(predicted, test.votes).mean() > 0.8
