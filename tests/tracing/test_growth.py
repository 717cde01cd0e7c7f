"""Work grows with documents and with new tokens, and with nothing else: counted in tokens, without a clock."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from mlutils.tracing import prompts, views
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import Draft
from mlutils.tracing.prompting import Prompting

VIEWS = ("list", "unary", "pairwise")
# Texts of equal length, no two of them the same: a document that is known again costs nothing.
TEXTS = [" ".join(words) for words in permutations(("fox", "wet", "tea", "over", "field", "while"))]
TEXTS = np.random.default_rng(0).permutation(TEXTS).tolist()


@pytest.fixture(autouse=True)
def no_drafts(monkeypatch):
    """What drafts propose depends on what was answered before: without them each answer costs its own tokens."""
    monkeypatch.setattr(Draft, "propose", lambda self, tokens, limit: [])


def count(llama, corpus, view, documents, shots=3, labels=("anger", "fear", "joy"), more=""):
    """Returns the tokens of a view, and those of them that stand in what all prompts begin with."""
    tested = replace(
        corpus, labels=labels, gold=np.zeros((documents, len(labels)), bool),
        votes=np.zeros((documents, len(labels))), annotators=np.ones(documents, int),
        documents=pd.DataFrame({
            "id": [f"t{n}" for n in range(documents)], "text": [text + more for text in TEXTS[:documents]],
        }),
    )  # fmt: skip
    train = replace(
        corpus, labels=labels, gold=np.eye(len(labels), dtype=bool)[np.arange(40) % len(labels)],
        votes=np.zeros((40, len(labels))),
    )  # fmt: skip
    asked = Prompting(tested, train, draw(train, shots, "random"), prompts.template("x"), 6)
    made = views.VIEWS[view](llama, asked)
    for first in range(0, documents, views.PART):
        tables, _ = made.ask(range(first, min(first + views.PART, documents)))
        assert not tables["failures"]
    return made.engine.tokens, len(made.engine.prefix.tokens)


@pytest.mark.parametrize("view", VIEWS)
def test_tokens_are_linear_in_documents(llama, corpus, view):
    found = {n: count(llama, corpus, view, n) for n in (32, 64, 160)}
    assert len({prefix for _, prefix in found.values()}) == 1
    prefix = found[32][1]
    each = (found[32][0] - prefix) / 32
    assert {n: tokens - prefix for n, (tokens, _) in found.items()} == {n: each * n for n in found}
    assert prefix > 3 * each / 5


@pytest.mark.parametrize("view", VIEWS)
def test_demonstrations_are_paid_once(llama, corpus, view):
    few, many = (count(llama, corpus, view, 64, shots) for shots in (2, 8))
    assert many[1] - few[1] > 60
    if view != "list":  # what a list says, and how long it is, depends on what is shown
        assert many[0] - few[0] == many[1] - few[1]
    assert many[0] - few[0] < 2 * (many[1] - few[1])


@pytest.mark.parametrize("view", VIEWS[1:])
def test_a_longer_document_is_paid_once_however_many_questions_it_is_asked(llama, corpus, view):
    short, long = (count(llama, corpus, view, 32, more=" wet" * n) for n in (1, 41))
    tokens = len(llama.tokenizer(" wet" * 40)["input_ids"])
    assert short[1] == long[1] and long[0] - short[0] == 32 * tokens


def test_labels_are_paid_by_question(llama, corpus):
    """One question a label grows by the label's own tokens; pairs by each pair, until they are sparse."""
    labels = [f"{a}{b}" for a in "abcdefgh" for b in "klmnop"]
    prefix = {}
    for view in VIEWS[1:]:
        found = {n: count(llama, corpus, view, 2, 0, tuple(labels[:n])) for n in (12, 24, 48)}
        prefix[view] = {n: (tokens - held) / 2 for n, (tokens, held) in found.items()}
    unary, pairs = prefix["unary"], prefix["pairwise"]
    assert unary[48] - unary[24] == pytest.approx(2 * (unary[24] - unary[12]), rel=0.1)
    assert pairs[24] > 3 * pairs[12]  # 300 pairs, 78 pairs
    assert pairs[48] < 1.2 * pairs[24]  # 240 pairs, and more beginnings
