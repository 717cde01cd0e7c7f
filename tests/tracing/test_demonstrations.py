"""Plans of demonstrations: the shares that were asked for, reproducible, as data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlutils import corpora
from mlutils.tracing import demonstrations
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
    assert [plan.of(i) for i in range(3, 7)] == [0, 1, 2, 0]  # more documents than plans take turns


def test_half_of_the_questions_are_reasonable_and_all_are_true(corpus):
    (questions,) = draw(corpus, shots=10).questions
    gold = dict(zip(corpus.documents["id"], corpus.gold, strict=True))
    assert sum(good for *_, good in questions) == 5
    for document, label, good in questions:
        assert gold[document][corpus.labels.index(label)] == good


def test_pairs_set_a_label_of_the_document_against_one_that_it_has_not(corpus):
    answers = []
    for seed in range(4):
        plan = draw(corpus, shots=8, strategy="random", seed=seed)
        gold = dict(zip(corpus.documents["id"], corpus.gold, strict=True))
        assert [document for document, *_ in plan.pairs[0]] == list(plan.ids[0])
        for document, a, b, answer in plan.pairs[0]:
            right, wrong = (a, b) if answer == "a" else (b, a)
            has = {label for label, held in zip(corpus.labels, gold[document], strict=True) if held}
            # None stands in where a document has no label, or all of them.
            assert right in (has or {"none"})
            assert wrong in (set(corpus.labels) - has or {"none"})
        answers.append([answer for *_, answer in plan.pairs[0]])
        assert sorted(answers[-1]) == ["a"] * 4 + ["b"] * 4
    assert len({tuple(row) for row in answers}) > 1
    json.dumps(plan.as_json())


def test_pairs_came_later_and_change_nothing_else(corpus):
    # As drawn before plans had pairs: a stored trace keeps its demonstrations.
    plan = draw(corpus, shots=4, seed=7, shared=False, queries=3)
    rng = np.random.default_rng(7)
    counts = corpus.gold.sum(1)
    rows = [
        rng.permutation(np.concatenate([rng.choice(np.flatnonzero(group), 2, replace=False) for group in groups]))
        for groups in [(counts >= 2, counts == 1)] * 3
    ]
    assert plan.ids == tuple(tuple(f"d{row}" for row in drawn) for drawn in rows)
    assert len(plan.pairs) == 3 and all(len(pairs) == 4 for pairs in plan.pairs)


def test_single_label_sets_never_show_none_in_a_pair(corpus):
    gold = np.zeros_like(corpus.gold)
    gold[range(40), np.arange(40) % 3] = True
    gold[::5] = False  # without a majority
    single = replace(corpus, gold=gold, single_label=True)
    (pairs,) = draw(single, shots=30, strategy="random").pairs
    assert 15 < len(pairs) < 30 and "none" not in {label for _, a, b, _ in pairs for label in (a, b)}


def test_excluded_documents_are_never_shown(corpus):
    some = set(corpus.documents["id"][:20])
    for seed in range(5):
        assert not some & set(draw(corpus, shots=6, seed=seed, exclude=some).ids[0])


@pytest.mark.parametrize("arguments, word", [
    ({"strategy": "best"}, "best"), ({"several": 1.5}, "1.5"), ({"shots": -1}, "-1"), ({"shots": 99}, "wanted"),
    ({"several": 0.8, "none": 0.3}, "several=0.8 and none=0.3 must be in .* and sum to 1 at most"),
    ({"several": 0.5, "none": 0.6}, "sum to 1 at most"), ({"none": -0.1}, "none=-0.1"), ({"none": 1.1}, "none=1.1"),
])  # fmt: skip
def test_impossible_plans_are_refused(corpus, arguments, word):
    with pytest.raises(ValueError, match=word):
        draw(corpus, **arguments)


def test_shares_that_sum_to_one_leave_nothing_for_one_label(corpus):
    for several, none in ((0.9, 0.1), (0.7, 0.3), (0.0, 1.0)):  # 0.9 + 0.1 and 0.7 + 0.3 are not quite 1 as floats
        assert 1 not in counts(corpus, draw(corpus, shots=3, several=several, none=none).ids[0])
    said = counts(corpus, draw(corpus, shots=3, several=0.5, none=0.5).ids[0])  # two and two, if both were rounded up
    assert sorted(said >= 2) == [False, True, True] and (said == 0).sum() == 1


def test_no_demonstrations(corpus):
    plan = draw(corpus, shots=0)
    assert plan.ids == plan.pairs == ((),) and np.size(plan.questions) == 0


def test_reserved_documents_are_drawn_like_the_tested_ones_and_never_shown():
    tested = corpora.load("vignettes", "test", "uniform", 60)
    learnt, aside = corpora.split_training(corpora.training_documents(tested))
    assert not set(learnt.documents["id"]) & set(aside.documents["id"])
    assert len(learnt) + len(aside) == 4000
    drawn = corpora.reserve(tested, 60)
    assert set(drawn.documents["id"]) <= set(aside.documents["id"]) and drawn.sample == "reserve"
    assert set(np.minimum(drawn.gold.sum(1), 2)) == {0, 1, 2}
    counts = np.bincount(np.minimum(drawn.gold.sum(1), 2))
    assert counts[2] >= 10  # a tenth has several labels naturally; few of these are agreed on, so no full third
    assert counts[:2].min() >= 20
    shown = demonstrations.pool(tested)
    assert not set(shown.documents["id"]) & set(aside.documents["id"])
    assert demonstrations.draw(shown, exclude=drawn.documents["id"]) == demonstrations.draw(
        shown, exclude=tested.documents["id"]
    )
