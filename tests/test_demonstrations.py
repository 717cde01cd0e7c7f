"""Plans of demonstrations: the shares that were asked for, reproducible, as data."""

import json

import numpy as np
import pytest

from mlutils.tracing.demonstrations import draw


def counts(corpus, ids):
    rows = corpus.documents["id"].tolist()
    return corpus.gold[[rows.index(i) for i in ids]].sum(1)


def test_half_of_family_p_has_several_labels_and_none_is_empty(corpus):
    plan = draw(corpus, shots=10)
    said = counts(corpus, plan.ids[0])
    assert (said >= 2).sum() == 5 and (said == 1).sum() == 5
    assert len(set(plan.ids[0])) == 10


@pytest.mark.parametrize("several, none", [(0.2, 0.0), (0.0, 0.1), (1.0, 0.0), (0.4, 0.1)])
def test_shares_are_parameters(corpus, several, none):
    said = counts(corpus, draw(corpus, shots=10, several=several, none=none).ids[0])
    assert (said >= 2).sum() == 10 * several and (said == 0).sum() == 10 * none


def test_a_seed_is_a_plan(corpus):
    assert draw(corpus, seed=1) == draw(corpus, seed=1)
    assert draw(corpus, seed=1) != draw(corpus, seed=2)
    json.dumps(draw(corpus).as_json())


def test_balanced_plans_show_every_label(corpus):
    plan = draw(corpus, shots=9, strategy="balanced")
    rows = [corpus.documents["id"].tolist().index(i) for i in plan.ids[0]]
    assert (corpus.gold[rows].sum(0) >= 3).all()


def test_plans_can_be_drawn_for_each_document(corpus):
    plan = draw(corpus, shots=4, shared=False, queries=3)
    assert len(plan.ids) == 3 and len(set(plan.ids)) > 1
    assert [plan.of(i) for i in range(3)] == [0, 1, 2]
    assert [draw(corpus).of(i) for i in range(3)] == [0, 0, 0]


def test_half_of_the_questions_are_reasonable_and_all_are_true(corpus):
    (questions,) = draw(corpus, shots=10).questions
    gold = dict(zip(corpus.documents["id"], corpus.gold, strict=True))
    assert sum(good for *_, good in questions) == 5
    for document, label, good in questions:
        assert gold[document][corpus.labels.index(label)] == good


def test_excluded_documents_are_never_shown(corpus):
    some = set(corpus.documents["id"][:20])
    for seed in range(5):
        assert not some & set(draw(corpus, shots=6, seed=seed, exclude=some).ids[0])


@pytest.mark.parametrize("arguments, word", [
    ({"strategy": "best"}, "best"), ({"several": 1.5}, "1.5"), ({"shots": -1}, "-1"), ({"shots": 99}, "wanted"),
])  # fmt: skip
def test_impossible_plans_are_refused(corpus, arguments, word):
    with pytest.raises(ValueError, match=word):
        draw(corpus, **arguments)


def test_no_demonstrations(corpus):
    plan = draw(corpus, shots=0)
    assert plan.ids == ((),) and np.size(plan.questions) == 0
