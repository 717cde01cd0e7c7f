"""What is said of a corpus before it is used: a small one, made here, with rows that cannot be read."""

import pytest

from mlutils.tracing import corpus_check
from tests.corpora.test_own_corpora import make  # noqa: F401

ABOUT = """
title: Moods
prompt: {noun: moods}
labels: [glad, sad, sadly]
gold: {share: 0.5}
annotations: {shape: lists, files: notes, id: n, text: t, annotator: who, labels: said, split: part}
"""


def rows(*more):
    written = ["n,t,who,said,part"]
    for number in range(60):
        said = ['"glad, sad"', "glad", "sad"][number % 3]
        written += [f"{number},Note {number},{who},{said},{'dev' if number % 5 == 0 else 'train'}" for who in "pq"]
    return "\n".join([*written, *more]) + "\n"


def test_what_is_said_of_a_corpus(make):  # noqa: F811
    report, unread = corpus_check.check(make(ABOUT, notes=rows("60,NOTE  5,p,glad,train", "60,NOTE  5,q,,train")))
    assert unread == 0 and "== Rows that could not be read: none" in report
    parts = report.split("\n== ")
    (statistics,) = (part for part in parts if part.startswith("Statistics"))
    cells = {line.rsplit(maxsplit=3)[0]: line.split()[-3:] for line in statistics.splitlines()[2:]}
    assert cells["documents"] == ["49", "12", "61"] and cells["kappa_kind"] == ["cohen", "cohen", "cohen"]
    assert cells["gold glad, %"] == ["67.35", "66.67", "67.21"]  # 33, 8 and 41 documents
    assert "== Copies of texts: 1\nin dev and train: 5, 60" in report or "in dev and train: 60, 5" in report
    assert report.count("\n    gold [") == 5 and "votes {'glad': '0.50'} of 2" in report
    assert "labels that begin with one token: sad, sadly" in report
    assert "per input: glad, sad and sadly. Output exactly these moods and no others." in report
    assert "the model reads 2048" in report and "a prompt with 10 demonstrations has" in report


def test_rows_that_cannot_be_read_are_all_listed(make, capsys):  # noqa: F811
    path = make(ABOUT, notes=rows("60,x,p,merry,dev", "61,x,p", "62,y,q,glad,dev"))
    report, unread = corpus_check.check(path)
    assert unread == 2 and "notes.csv:122: said 'merry': 'merry' is unknown" in report
    assert "notes.csv:123: 3 fields where 5 are needed" in report and "62: 'y'" in report


def test_a_prompt_that_is_too_long_or_cannot_be_made_is_said(make, monkeypatch):  # noqa: F811
    long = "word " * 2100
    path = make(ABOUT, notes=rows(f"60,{long},p,glad,dev"))
    assert "more than the 2048 of miniature-xs" in corpus_check.check(path)[0]
    path = make(ABOUT, notes="n,t,who,said,part\n1,x,p,glad,dev\n2,y,p,sad,train\n")
    assert "no prompt can be made as 10_trace would" in corpus_check.check(path)[0]


@pytest.mark.parametrize("name", ["vignettes"])
def test_a_corpus_that_is_no_table_is_described_too(name):
    report, unread = corpus_check.check(name)
    assert unread == 0 and report.startswith("Vignettes: ") and "the following emotions per input" in report
