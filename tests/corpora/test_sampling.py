"""Which documents a sample takes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutils import paths
from mlutils.corpora import sampling, text_marks
from mlutils.corpora.corpus import Corpus


def corpus_of(gold, votes=None, name="made", single_label=False):
    gold = np.array(gold, dtype=bool)
    votes = np.full(gold.shape, np.nan) if votes is None else np.array(votes, dtype=float)
    return Corpus(
        name=name,
        split="dev",
        sample="all",
        labels=tuple("abc"[: gold.shape[1]]),
        documents=pd.DataFrame({"id": [f"d{i}" for i in range(len(gold))], "text": "text"}),
        gold=gold,
        votes=votes,
        annotators=np.where(np.isnan(votes).any(axis=1), 0, 3),
        single_label=single_label,
        missing=("left out",),
    )


def voted_corpus(documents=600, seed=0):
    """Votes of three annotators on three labels; gold is two votes or more."""
    rng = np.random.default_rng(seed)
    counts = rng.choice(4, size=(documents, 3), p=[0.5, 0.15, 0.1, 0.25])
    return corpus_of(counts >= 2, counts / 3)


def ids(corpus):
    return corpus.documents["id"].tolist()


def test_all_keeps_the_order_and_a_limit_shuffles():
    corpus = voted_corpus(50)
    assert ids(sampling.sample_corpus(corpus, "all")) == ids(corpus)
    ten, twenty = (ids(sampling.sample_corpus(corpus, "all", limit)) for limit in (10, 20))
    assert len(set(ten)) == 10 and twenty[:10] == ten and ten != ids(corpus)[:10]
    assert ids(sampling.sample_corpus(corpus, "all", 10, seed=1)) != ten
    assert sorted(ids(sampling.sample_corpus(corpus, "all", 500))) == sorted(ids(corpus))


def test_multilabel():
    corpus = voted_corpus()
    sample = sampling.sample_corpus(corpus, "multilabel")
    assert sample.sample == "multilabel" and sample.missing == ("left out",)
    several = [i for i, row in zip(ids(corpus), corpus.gold.tolist(), strict=True) if sum(row) >= 2]
    assert ids(sample) == several
    assert set(ids(sampling.sample_corpus(corpus, "multilabel", 7))) < set(several)


def test_strata_by_hand():
    corpus = corpus_of(
        [[0, 0], [0, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 0]],
        [[0, 0], [0, 1 / 3], [1, 0], [2 / 3, 0], [1, 1], [1, 2 / 3], [np.nan, np.nan]],
    )
    # 2 x (none, one, several) + agree; a document without votes is in no stratum
    assert sampling.strata(corpus).tolist() == [1, 0, 3, 2, 5, 4, -1]
    assert sampling.strata(corpus_of(corpus.gold)).tolist() == [0, 0, 1, 1, 2, 2, 0]


def test_two_labels_and_more_are_one_stratum():
    gold = [[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert sampling.strata(corpus_of(gold)).tolist() == [2, 2, 0, 1]
    assert sampling.strata(corpus_of(gold, np.array(gold, float))).tolist() == [5, 5, 1, 3]
    # Many with two, one with three labels: a stratum of its own would be drawn whole.
    many = corpus_of([[1, 1, 0]] * 60 + [[1, 1, 1]] * 60 + [[0, 0, 0]] * 60)
    drawn = many.gold[sampling.uniform_rows(many, 60)].sum(axis=1)
    assert (drawn == 0).sum() == 30 and (drawn >= 2).sum() == 30


def test_strata_of_a_single_label_corpus_are_its_classes():
    gold = [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    votes = [[1, 0, 0], [1 / 3, 0, 2 / 3], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]
    assert sampling.strata(corpus_of(gold, votes, single_label=True)).tolist() == [1, 4, 5, -1]


def test_uniform_is_even_where_it_can_be():
    corpus = voted_corpus()
    sample = sampling.sample_corpus(corpus, "uniform", 60)
    counts = np.bincount(sampling.strata(sample), minlength=6)
    room = np.bincount(sampling.strata(corpus), minlength=6)
    assert len(sample) == 60 and len(set(ids(sample))) == 60
    short = room < 10
    assert (counts[short] == room[short]).all()
    assert np.ptp(counts[~short]) <= 1
    assert ids(sample) == ids(sampling.sample_corpus(corpus, "uniform", 60))
    assert ids(sample) != ids(sampling.sample_corpus(corpus, "uniform", 60, seed=1))
    assert (np.diff(sampling.strata(sample)) < 0).any()  # shuffled, not one stratum after the other
    assert len(sampling.sample_corpus(corpus, "uniform")) == 200


def test_uniform_by_the_number_of_labels_where_nobody_voted():
    gold = np.zeros((90, 3), dtype=bool)
    gold[60:, 0] = True
    gold[85:, 1] = True
    sample = sampling.sample_corpus(corpus_of(gold), "uniform", 30)
    assert np.bincount(np.minimum(sample.gold.sum(axis=1), 2)).tolist() == [13, 12, 5]


def test_uniform_leaves_out_documents_without_votes_where_others_have_them():
    votes = np.where(np.arange(20)[:, None] < 8, 1.0, np.nan) * np.ones((20, 2))
    sample = sampling.sample_corpus(corpus_of(np.ones((20, 2)), votes), "uniform")
    assert sorted(ids(sample)) == [f"d{i}" for i in range(8)]


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(0, 100))
def test_share_evenly(room, size):
    quotas = sampling.share_evenly(room, size)
    assert sum(quotas) == min(size, sum(room))
    assert all(0 <= quota <= most for quota, most in zip(quotas, room, strict=True))
    unfilled = [quota for quota, most in zip(quotas, room, strict=True) if quota < most]
    # who is not full has at least as many, but one, as anybody else
    assert not unfilled or min(unfilled) >= max(quotas) - 1


def test_paper_reports_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path)
    rows = "made,main,d4\nmade,main,gone\nmade,main,d1\nmade,multilabel,d2\nother,main,d3\n"
    (tmp_path / "document_ids.csv").write_text("dataset,set,document_id\n" + rows)
    corpus = voted_corpus(6)
    sample = sampling.sample_corpus(corpus, "paper")
    assert ids(sample) == ["d4", "d1"] and sample.missing == ("gone",)
    assert ids(sampling.sample_corpus(corpus, "paper_multilabel")) == ["d2"]
    with pytest.raises(ValueError, match="multilabel documents of 'other' are not published; those of made are"):
        sampling.sample_corpus(corpus_of([[1]], name="other"), "paper_multilabel")


def test_bad_arguments():
    with pytest.raises(ValueError, match="sample 'some' is unknown.*paper_multilabel"):
        sampling.sample_corpus(voted_corpus(3), "some")
    with pytest.raises(ValueError, match="limit=-1"):
        sampling.sample_corpus(voted_corpus(3), "all", -1)


@given(st.lists(st.text(min_size=1), unique=True, max_size=50), st.floats(0, 1))
def test_a_document_is_set_aside_by_its_id_alone(names, share):
    found = sampling.reserved(names, share)
    assert (sampling.reserved(names[::-1], share)[::-1] == found).all()
    assert (found <= sampling.reserved(names, 1.0)).all()  # shares are nested
    assert not sampling.reserved(names, 0.0).any()


def test_about_a_tenth_is_set_aside():
    assert sampling.reserved([f"d{i}" for i in range(10_000)]).mean() == pytest.approx(0.1, abs=0.01)


def test_marks_of_texts_stay_as_adapters_have_recorded_them():
    """With others, copies of what an adapter was trained on would be asked about without a word."""
    found = corpus_of([[1], [0], [1]])
    texts = ["a fox", " A\tFOX \n", "a fix"]
    marks = text_marks(replace(found, documents=found.documents.assign(text=texts)))
    assert marks[:2] == ["5ebbe2a2650a5e15"] * 2 and marks[2] != marks[0]  # printf 'a fox' | sha256sum | cut -c1-16
