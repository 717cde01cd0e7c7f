"""Soft targets: packed rows are plain questions, and what is trained is what the unary breakdown reads out."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlutils.tracing import demonstrations, models, prompts, vocabulary
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.questions import UnaryView
from mlutils.training import soft_targets
from mlutils.training.adaptation import FinetuningError, Recipe

NAME = "random-llama+soft-foxes"
SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5)


@given(SEQUENCES)
def test_each_question_sees_itself_and_what_it_shares_only(sequences):
    row = soft_targets.pack(sequences)
    for sequence, end in zip(sequences, row["ends"], strict=True):
        seen = np.flatnonzero(row["sees"][end])
        assert [row["input_ids"][i] for i in seen] == sequence
        assert [row["position_ids"][i] for i in seen] == list(range(len(sequence)))
    for token, sees in enumerate(row["sees"]):  # what a token sees are the positions before it, once each
        assert sorted(row["position_ids"][i] for i in np.flatnonzero(sees)) == list(
            range(row["position_ids"][token] + 1)
        )


def test_log_odds_of_packed_and_padded_rows_are_those_of_plain_questions(llama, corpus):
    few = corpus.take([0, 7, 20])
    questions = soft_targets.write_questions(few, corpus)
    rows = soft_targets.encode_questions(llama, few, questions)
    words = [vocabulary.encode(llama.tokenizer, f" {word}")[0] for word in prompts.UNARY_ANSWERS]
    with torch.no_grad():
        found = soft_targets.log_odds(llama.network, soft_targets.collate(rows), words)
        for i, group in enumerate(questions):
            for j, ids in enumerate(vocabulary.encode_prompts(llama.tokenizer, group)):
                plain = llama.network(input_ids=torch.tensor([ids])).logits[0, -1]
                assert found[i, j].item() == pytest.approx((plain[words[0]] - plain[words[1]]).item(), abs=1e-4)
    assert found.std() > 0.05  # questions differ
    # One row holds less than its questions.
    assert len(rows[0]["input_ids"]) < 0.6 * sum(map(len, vocabulary.encode_prompts(llama.tokenizer, questions[0])))


def test_questions_are_those_of_the_tracer(llama, corpus):
    plan = demonstrations.draw(corpus, 4, exclude=["d3"])
    prompting = Prompting(corpus.take([3]), corpus, plan, prompts.template("foxes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soft_targets, "draw_shown", lambda *_: [(plan.ids[0], plan.questions[0])])
        (questions,) = soft_targets.write_questions(corpus.take([3]), corpus, 4)
    assert questions == prompting.unary_prompts(0)[:-1]  # the tracer asks about none, too


def test_targets_are_votes_or_the_gold_set(corpus):
    votes = corpus.votes.copy()
    votes[3] = np.nan
    shares = soft_targets.vote_shares(dataclasses.replace(corpus, votes=votes))
    assert shares[3].tolist() == corpus.gold[3].tolist() and np.array_equal(shares[4:], corpus.votes[4:])


def test_the_loss_is_binary_cross_entropy_with_shares(llama, corpus, monkeypatch):
    logits = torch.tensor([[0.0, np.log(3.0)]])
    monkeypatch.setattr(soft_targets, "log_odds", lambda *_: logits)
    trainer = soft_targets.SoftTrainer.__new__(soft_targets.SoftTrainer)
    trainer.words = (0, 1)
    value = trainer.compute_loss(None, {"shares": torch.tensor([[1 / 3, 1.0]])})
    assert value.item() == pytest.approx((np.log(2) - np.log(0.75)) / 2)


def test_a_tuned_model_gives_the_shares_that_it_was_taught(corpus, tmp_path):
    model = models.load(models.RANDOM, "cpu", "float32")
    shares = np.array([0.8, 0.2, 0.5])
    votes = np.random.default_rng(0).binomial(3, shares, (40, 3)) / 3
    same = corpus.documents.assign(text="the fox ran")  # a random model tells texts apart more than labels
    corpus = dataclasses.replace(corpus, votes=votes, gold=votes >= 0.5, documents=same)
    train, held = corpus.take(range(32)), corpus.take(range(32, 40))
    recipe = Recipe(rank=8, alpha=16, dropout=0.0, rate=3e-3, epochs=12, batch=8, evaluations=2)
    curve = soft_targets.tune(model, train, held, recipe, NAME, tmp_path)
    wanted = votes[:32].mean(axis=0)
    least = -(wanted * np.log(wanted) + (1 - wanted) * np.log(1 - wanted)).mean()
    assert curve["loss"].iloc[-6:].mean() < least + 0.04 < 0.65 < curve["held_loss"].iloc[0]

    tuned = models.load(NAME, "cpu", "float32", [tmp_path])
    plan = demonstrations.draw(train, 0)
    prompting = Prompting(held, train, plan, prompts.template("foxes"))
    tables, _ = UnaryView(tuned, prompting).ask(range(8))
    logits = {(q["document"], q["first"]): q["logits"] for q in tables["questions"]}
    odds = np.array([[np.subtract(*logits[i, label]) for label in corpus.labels] for i in held.documents["id"]])
    assert (1 / (1 + np.exp(-odds))).mean(axis=0) == pytest.approx(wanted, abs=0.12)


def test_the_held_out_loss_is_the_mean_over_questions_whatever_the_batch(llama, corpus, tmp_path):
    model = models.load(models.RANDOM, "cpu", "float32")
    train, held = corpus.take(range(12)), corpus.take(range(12, 25))
    questions = soft_targets.write_questions(held, train)
    words = [vocabulary.encode(llama.tokenizer, f" {word}")[0] for word in prompts.UNARY_ANSWERS]
    losses = []
    for group, shares in zip(questions, held.votes, strict=True):
        for ids, share in zip(vocabulary.encode_prompts(llama.tokenizer, group), shares, strict=True):
            with torch.no_grad():
                plain = llama.network(input_ids=torch.tensor([ids])).logits[0, -1].double()
            odds = (plain[words[0]] - plain[words[1]]).item()
            losses.append(np.logaddexp(0, odds) - share * odds)
    for batch in (1, 4, 16):
        recipe = Recipe(rank=8, alpha=16, dropout=0.0, rate=3e-3, epochs=1, batch=batch, evaluations=1)
        curve = soft_targets.tune(model, train, held, recipe, f"{NAME}{batch}", tmp_path)
        assert curve["held_loss"].iloc[0] == pytest.approx(np.mean(losses), abs=2e-5)


def test_models_that_cannot_be_packed_are_refused(llama, corpus, tmp_path):
    with pytest.raises(FinetuningError, match="random-llama cannot be trained on packed questions"):
        soft_targets.tune(dataclasses.replace(llama, packed=False), corpus, corpus, Recipe(), NAME, tmp_path)
