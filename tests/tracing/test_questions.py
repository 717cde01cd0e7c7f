"""The views that ask questions: every pair once, the logits of plain prompts, and no token more than needed."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from transformers import AutoTokenizer

from mlutils import paths, readouts
from mlutils.traces import Trace, TraceError
from mlutils.tracing import models, prompts, quantised, questions, views, vocabulary
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import BadLogits
from mlutils.tracing.prompting import Prompting, pair_up

SMOLLM2 = paths.cache() / "models" / f"{models.DEFAULT}-{quantised.UNPACKED}"
GOEMOTIONS = ["admiration", "anger", "fear", "joy", "optimism", "sadness", "surprise", "none"]


def prompting(corpus, **options):
    return Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes"), **options)


def write(folder, llama, corpus, **options):
    return views.write_trace(folder, llama, prompting(corpus, **options), views=["pairwise"])


def plain_logits(llama, prompt, words):
    """Returns the logits of words (N,) after a prompt that stands alone."""
    ids = vocabulary.encode_prompts(llama.tokenizer, [prompt])
    tokens = [vocabulary.encode(llama.tokenizer, word)[0] for word in words]
    with torch.inference_mode():
        return llama.network(torch.tensor(ids)).logits[0, -1, tokens].double().numpy()


@pytest.fixture(scope="module")
def small(corpus):
    return corpus.take(range(8))


@pytest.fixture(scope="module")
def trace(llama, small, tmp_path_factory):
    return write(tmp_path_factory.mktemp("pairs"), llama, small)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_every_pair_is_asked_once_and_each_label_half_of_the_time_at_a(size):
    names = GOEMOTIONS[-size:]
    for seed in range(5):
        pairs = pair_up(names, "plan", seed)
        assert sorted(map(sorted, pairs)) == sorted(map(sorted, combinations(names, 2)))
        at_a = [sum(a == name for a, _ in pairs) for name in names]
        assert max(at_a) - min(at_a) == (size + 1) % 2
    assert pair_up(names, "plan", 1) == pair_up(names, "plan", 1)
    assert pair_up(names, "released", 1) == list(combinations(names, 2))
    both = pair_up(names, "both", 1)
    assert len(set(both)) == len(both) == size * (size - 1) and {(b, a) for a, b in both} == set(both)


def test_the_seed_draws_the_order():
    assert len({tuple(pair_up(GOEMOTIONS, "plan", seed)) for seed in range(20)}) > 15


def test_a_model_that_only_prefers_a_favours_no_label():
    names = GOEMOTIONS[-5:]
    wins = np.full((1, 5, 5), np.nan)
    for a, b in pair_up(names, "plan", 0):
        wins[0, names.index(a), names.index(b)] = 0.9
    assert readouts.bradley_terry.find_constant(wins).all()
    assert readouts.pairwise(np.where(np.isnan(wins), 1 - wins.transpose(0, 2, 1), wins)) == pytest.approx(0.5)


def test_pairwise_logits_are_those_of_plain_prompts(trace, llama, small):
    asked = prompting(small)
    names = [*small.labels, "none"]
    assert sorted(map(sorted, asked.pairs)) == sorted(map(sorted, combinations(names, 2)))
    wins, ordered = trace.pairwise_wins(), trace.pairwise_wins(ordered=True)
    for row in (0, 5, 7):
        for (a, b), prompt in zip(asked.pairs, asked.pairwise_prompts(row), strict=True):
            assert prompt.endswith(f"Question: {small.documents['text'][row]}\na. {a}\nb. {b}\nCorrect Label:")
            plain = plain_logits(llama, prompt, (" a", " b"))
            i, j = names.index(a), names.index(b)
            assert wins[row, i, j] == pytest.approx(expit(plain[0] - plain[1]), abs=1e-5)
            assert wins[row, j, i] == pytest.approx(1 - wins[row, i, j]) and ordered[row, i, j] == wins[row, i, j]
            assert np.isnan(ordered[row, j, i])
    assert np.isnan(wins[:, range(4), range(4)]).all() and np.isfinite(wins).sum() == 8 * 12
    assert (trace.questions["mass"] > 0).all() and trace.settings["pair_order"] == "plan"
    for method in ("binary_breakdown", "binary_breakdown_outcomes"):
        assert np.isfinite(readouts.from_trace(trace, method)).all()


def test_both_orders_are_averaged(llama, small, trace, tmp_path):
    both = write(tmp_path, llama, small, pair_order="both")
    ordered, wins = both.pairwise_wins(ordered=True), both.pairwise_wins()
    off = ~np.eye(4, dtype=bool)
    assert np.isfinite(ordered[:, off]).all()
    for i, j in zip(*np.nonzero(off), strict=True):
        assert wins[:, i, j] == pytest.approx((ordered[:, i, j] + 1 - ordered[:, j, i]) / 2)
    once = trace.pairwise_wins(ordered=True)
    assert ordered[~np.isnan(once)] == pytest.approx(once[~np.isnan(once)], abs=1e-5)
    assert readouts.bradley_terry.fit_with_position(ordered)[0].shape == (8, 4)


@pytest.mark.parametrize("view", ["unary", "pairwise"])
def test_answers_are_the_tokens_that_the_demonstrations_hold(llama, small, view):
    ours, released = (views.VIEWS[view](llama, prompting(small, conventions=c)) for c in ("ours", "released"))
    words = prompts.PAIRWISE_ANSWERS if view == "pairwise" else prompts.UNARY_ANSWERS
    prompt = ours.prompts(0)[0]
    for token, word in zip(ours.select, words, strict=True):
        whole = vocabulary.encode(llama.tokenizer, f"{prompt} {word}")
        before = vocabulary.encode(llama.tokenizer, prompt)
        assert whole[: len(before) + 1] == [*before, token]
    # The released code ends its prompts with a space, and takes words without one.
    assert all(text.endswith(": ") for text in released.prompts(0))
    assert released.select == [vocabulary.encode(llama.tokenizer, word)[0] for word in words]
    assert not set(released.select) & set(ours.select)


def test_released_conventions_have_the_earlier_label_at_a(llama, small, tmp_path):
    asked = Prompting(small.take([0]), small, draw(small, 4), prompts.template("x"), 40, "released", "both")
    trace = views.write_trace(tmp_path, llama, asked, views=["pairwise"])
    pairs = list(combinations([*small.labels, "none"], 2))
    assert list(zip(trace.questions["first"], trace.questions["second"], strict=True)) == pairs
    assert trace.settings["pair_order"] == "released"
    prompt = asked.pairwise_prompts(0)[2]
    logits = plain_logits(llama, prompt, ("a", "b"))
    assert prompt.endswith(": ") and trace.questions["logits"][2] == pytest.approx(logits, abs=1e-4)


def nodes(sequences):
    """Returns how many tokens a trie of sequences holds."""
    return len({tuple(sequence[: i + 1]) for sequence in sequences for i in range(len(sequence))})


def test_what_pairs_share_goes_through_the_model_once(trace, llama, small):
    asked = prompting(small)
    sequences = [vocabulary.encode_prompts(llama.tokenizer, asked.pairwise_prompts(row)) for row in range(8)]
    alone = sum(len(sequence) for group in sequences for sequence in group)
    assert trace.work["pairwise"]["tokens"] <= nodes([s for group in sequences for s in group]) + 8
    assert trace.work["pairwise"]["tokens"] < alone / 10
    # Questions that begin with the same label share it: less than each question behind its document.
    for group, text in zip(sequences, small.documents["text"], strict=True):
        document = asked.pairwise_prompts(0)[0].rpartition("Question: ")[0] + f"Question: {text}"
        shared = len(vocabulary.encode(llama.tokenizer, document))
        assert nodes(group) - shared < sum(len(sequence) - shared for sequence in group)


@pytest.mark.skipif(not SMOLLM2.exists(), reason=f"{models.DEFAULT} is not in the cache")
def test_pairs_add_at_most_180_tokens_to_a_document_of_goemotions():
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    text = "I had no idea that they were coming, but what a lovely surprise it was to see all of them!"
    assert len(vocabulary.encode(tokenizer, f"Question: {text}")) in (24, 25)
    for order, seed in [("released", 0), *(("plan", seed) for seed in range(10))]:
        pairs = pair_up(GOEMOTIONS, order, seed)
        asked = [prompts.pairwise_prompt([("So glad", "joy", "fear", "a")], text, a, b) for a, b in pairs]
        sequences = [vocabulary.encode(tokenizer, prompt) for prompt in asked]
        document = vocabulary.encode(tokenizer, asked[0].rpartition("\na. ")[0])
        assert all(sequence[: len(document)] == document for sequence in sequences)
        # The line break and a., then each label that stands at a, then 28 labels at b with what follows them.
        at_a = len({a for a, _ in pairs})
        assert nodes(sequences) - len(document) == 3 + 4 * at_a + 5 * 28 == (171 if order == "released" else 175) < 180
        assert sum(len(sequence) - len(document) for sequence in sequences) == 12 * 28  # without shared beginnings


def test_documents_that_are_too_long_or_without_numbers_are_recorded(llama, corpus, tmp_path, monkeypatch):
    texts = corpus.documents.copy()
    texts.loc[3, "text"] = "fox " * 6000
    read = views.PairwiseView(llama, prompting(corpus)).engine.__class__.read

    def broken(self, groups, select):
        answers = read(self, groups, select)
        return [BadLogits() if len(groups) == 31 and i == 10 else a for i, a in enumerate(answers)]

    monkeypatch.setattr("mlutils.tracing.engine.PackedEngine.read", broken)
    long = replace(corpus, documents=texts)
    asked = Prompting(long, corpus, draw(corpus, 4, exclude=["d3"]), prompts.template("x"))
    trace = views.write_trace(tmp_path, llama, asked, views=["pairwise"])
    assert list(trace.failures["document"]) == ["d3", "d11"]  # the eleventh of those that fit
    assert "too long" in trace.failures["error"][0] and set(trace.failures["view"]) == {"pairwise"}
    assert list(np.flatnonzero(np.isnan(trace.pairwise_wins()).all((1, 2)))) == [3, 11]
    value = readouts.from_trace(trace, "binary_breakdown")
    assert list(np.flatnonzero(np.isnan(value).any(1))) == [3, 11]


def test_none_takes_no_part_in_single_label_sets(llama, small, tmp_path):
    gold = np.eye(3, dtype=bool)[np.arange(8) % 3]
    single = replace(small, gold=gold, single_label=True)
    plan = draw(single, shots=3)
    asked = Prompting(single, single, plan, prompts.template("hatexplain"))
    trace = views.write_trace(tmp_path, llama, asked, views=["pairwise"])
    assert len(trace.questions) == 8 * 3 and "none" not in set(trace.questions[["first", "second"]].to_numpy().ravel())
    wins = trace.pairwise_wins()
    assert np.isnan(wins[:, 3]).all() and np.isnan(wins[:, :, 3]).all()
    value = readouts.from_trace(trace, "binary_breakdown")
    assert value.shape == (8, 3) and value.sum(axis=1) == pytest.approx(1)
    assert readouts.from_trace(trace, "binary_breakdown_outcomes").sum(axis=1) == pytest.approx(1)


def test_infinite_logits_in_a_trace_are_refused(llama, small, tmp_path):
    trace = write(tmp_path, llama, small)
    rows = trace.questions.copy()
    rows.at[7, "logits"] = np.full(2, np.inf, np.float32)
    rows.to_parquet(tmp_path / "questions.parquet")
    with pytest.raises(TraceError, match=r"\['d1'\] are NaN or infinite"):
        Trace(tmp_path).pairwise_wins()


def test_a_trace_without_pairs_says_so(llama, small, tmp_path):
    trace = views.write_trace(tmp_path, llama, prompting(small), views=["unary"])
    assert np.isnan(trace.pairwise_wins()).all() and trace.pairwise_wins().shape == (8, 4, 4)
    with pytest.raises(ValueError, match="no pair was answered in 8 of 8 documents"):
        readouts.from_trace(trace, "binary_breakdown")


def test_what_cannot_be_asked_is_refused(llama, small, monkeypatch):
    with pytest.raises(ValueError, match="pair order 'random' is not known: take one of plan, both, released"):
        prompting(small, pair_order="random")
    with pytest.raises(ValueError, match="new_tokens 0: an answer takes 1 or more"):  # it never ended
        prompting(small, new_tokens=0)
    monkeypatch.setattr(questions, "MOST", 11)
    with pytest.raises(
        ValueError, match="12 questions a document, more than 11: take pairs sparse, or leave it out for foxes"
    ):
        views.PairwiseView(llama, prompting(small, pair_order="both"))
    monkeypatch.setattr(questions.PairwiseView, "words", ("apple", "apples"))
    with pytest.raises(ValueError, match="cannot be told apart"):
        views.PairwiseView(llama, prompting(small))


def test_each_document_may_have_demonstrations_of_its_own(corpus, small):
    plan = draw(corpus, shots=4, shared=False, queries=8, exclude=small.documents["id"])
    asked = Prompting(small, corpus, plan, prompts.template("foxes"))
    heads = {asked.pairwise_prompts(row)[0].rpartition("Question: ")[0] for row in range(8)}
    assert len(heads) == 8
    texts = dict(zip(corpus.documents["id"], corpus.documents["text"], strict=True))
    for row, (head, pairs) in enumerate(zip((asked.pairwise_prompts(r)[0] for r in range(8)), plan.pairs, strict=True)):
        for document, a, b, answer in pairs:
            assert f"Question: {texts[document]}\na. {a}\nb. {b}\nCorrect Label: {answer}\n\n" in head, row


def test_questions_are_rows_of_the_trace(trace):
    assert isinstance(trace.questions, pd.DataFrame) and set(trace.questions["kind"]) == {"pairwise"}
    assert not trace.questions.duplicated(["document", "first", "second"]).any()
