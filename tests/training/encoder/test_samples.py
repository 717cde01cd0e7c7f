"""Documents are thinned and weighted as said, and tested ones are refused."""

import dataclasses

import numpy as np
import pytest

from mlutils.training import encoder
from mlutils.training.encoder import samples
from mlutils.training.encoder.network import EncoderError
from tests.training.encoder.made import corpus, recipe


def test_tested_documents_are_refused_by_id_and_by_text(tiny):
    train, test = corpus(30, 0, "a"), corpus(10, 1, "b")
    with pytest.raises(EncoderError, match="by id"):
        encoder.train(train, [test, train.take([3])], recipe(tiny))
    again = train.take([3])
    again.documents["id"], again.documents["text"] = "new", "  " + again.documents["text"].str.upper()
    with pytest.raises(EncoderError, match="1 training documents are also tested, by text"):
        encoder.train(train, again, recipe(tiny))
    with pytest.raises(EncoderError, match="by text"):
        encoder.frozen(train, [again], str(tiny))
    with pytest.raises(EncoderError, match="by id"):
        encoder.train(train, test, recipe(tiny), held_out=train.take([3]))
    with pytest.raises(EncoderError, match="labels differ"):
        samples.check_disjoint(train, [dataclasses.replace(test, labels=("joy", "fear", "anger"))])


def test_design_weights_even_out_the_strata():
    train = corpus(4000, 0, "a")
    rng = np.random.default_rng(0)
    votes = np.zeros((4000, 3))
    votes[:400] = rng.choice([1 / 3, 2 / 3], (400, 1))  # disagree, no label or several
    votes[400:600, 0] = 1  # one label, agree
    train = dataclasses.replace(train, votes=votes, gold=votes >= 0.5)
    weights = samples.design_weights(train)
    assert weights.mean() == pytest.approx(1)
    agree_none = (votes == 0).all(axis=1)
    parts = [agree_none, votes[:, 1] == 1 / 3, votes[:, 1] == 2 / 3, votes[:, 0] == 1]
    assert [weights[part].sum() / 4000 for part in parts] == pytest.approx([0.25] * 4)


def test_thin_keeps_all_but_easy_documents_and_their_weight():
    whole = corpus(200, 0, "a")
    thinned, weights = samples.thin(whole, 0.25)
    easy = (whole.votes == 0).all(axis=1)
    kept = (thinned.votes == 0).all(axis=1)
    assert kept.sum() == round(0.25 * easy.sum()) and (~kept).sum() == (~easy).sum()
    assert weights.sum() == pytest.approx(200) and (weights[~kept] == 1).all()
