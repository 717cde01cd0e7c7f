"""Encoders learn the targets that they are given, the same when they are killed on the way."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import BertModel

from mlutils import metrics
from mlutils.readouts import stacking
from mlutils.training import encoder
from mlutils.training.encoder import Recipe, loop
from mlutils.training.encoder.network import EncoderError, loss
from tests.training.encoder.made import WORDS, corpus, recipe


@pytest.mark.parametrize("head", ["pooled", "demux"])
def test_loss_falls_and_labels_are_learnt(tiny, head):
    train, test = corpus(240, 0, "a"), corpus(60, 1, "b")
    fitted = encoder.train(train, test, recipe(tiny, head=head))
    steps = np.array(fitted.losses)
    assert steps[-10:].mean() < steps[:10].mean() - 0.3
    predicted = fitted.predict(test.documents["text"])
    assert ((predicted >= 0.5) == test.gold).mean() > 0.9
    assert fitted.constant.tolist() == [False, False, True] and (predicted[:, 2] == 0).all()
    assert len(fitted.losses) == 8 * 240 / 8 and fitted.temperature == 1


def test_single_label_rows_sum_to_one(tiny):
    train, test = corpus(200, 0, "a", single_label=True), corpus(40, 1, "b", single_label=True)
    fitted = encoder.train(train, test, recipe(tiny))
    predicted = fitted.predict(test.documents["text"])
    assert predicted.sum(axis=1) == pytest.approx(np.ones(40))
    assert (predicted[:, 2] == 0).all()
    assert (predicted.argmax(axis=1) == test.gold.argmax(axis=1)).mean() > 0.9


def test_resumed_training_equals_uninterrupted(tiny, tmp_path, monkeypatch):
    train, test = corpus(64, 0, "a"), corpus(4, 1, "b")
    whole = encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "whole")

    monkeypatch.setattr(loop, "EVERY", 3)
    calls = {"left": 5}

    def killed(*given):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return loss(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "cut")
    torch.manual_seed(123)  # whatever happened in between
    resumed = encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "cut")
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-6)
    for (name, ours), theirs in zip(
        resumed.network.state_dict().items(), whole.network.state_dict().values(), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6), name
    with pytest.raises(EncoderError, match="another recipe"):
        encoder.train(train, test, recipe(tiny, epochs=3), folder=tmp_path / "cut")
    (tmp_path / "cut" / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(EncoderError, match="cannot be read"):
        encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "cut")


@pytest.mark.parametrize("head", ["pooled", "demux"])
def test_votes_are_the_targets(tiny, head):
    train, test = corpus(300, 0, "a"), corpus(3, 1, "b")
    votes = np.random.default_rng(2).binomial(3, [0.8, 0.35, 0.1], (300, 3)) / 3
    shared = [f"the {WORDS[0]} a{i}" for i in range(300)]  # unknown words: all texts look the same
    train = dataclasses.replace(train, votes=votes, documents=train.documents.assign(text=shared))
    chosen = recipe(tiny, head=head, epochs=3, intra=0.0)
    fitted = encoder.train(train, test, chosen)
    predicted = fitted.predict(["the today a0"])
    assert predicted[0] == pytest.approx(votes.mean(axis=0), abs=0.06)
    fitted = encoder.train(train, test, dataclasses.replace(chosen, targets="aggregate"))
    assert fitted.predict(["the today a0"])[0] == pytest.approx([0.5, 0.5, 0.0], abs=0.12)


def test_weights_decide_what_is_learnt(tiny):
    train, test = corpus(200, 0, "a"), corpus(3, 1, "b")
    same = train.documents.assign(text=[f"the a{i}" for i in range(200)])
    train = dataclasses.replace(train, documents=same)
    weights = np.where(train.gold[:, 0], 3.0, 1.0)
    fitted = encoder.train(train, test, recipe(tiny), weights=weights)
    wanted = np.average(train.votes[:, 0], weights=weights)
    assert fitted.predict(["the a0"])[0, 0] == pytest.approx(wanted, abs=0.07) and wanted > 0.7
    with pytest.raises(EncoderError, match="weights"):
        encoder.train(train, test, recipe(tiny), weights=weights[:5])


def test_temperature_recovers_a_known_one():
    logits = np.random.default_rng(0).normal(size=(4000, 3)) * 2
    shares = 1 / (1 + np.exp(-logits))
    assert encoder.fit_temperature(3 * logits, shares) == pytest.approx(3, rel=1e-3)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert encoder.fit_temperature(logits / 2, shares, single_label=True) == pytest.approx(0.5, rel=1e-3)


def test_a_temperature_is_fitted_on_held_out_votes_and_not_for_aggregate_targets(tiny):
    train, held, test = corpus(120, 0, "a"), corpus(200, 2, "c"), corpus(30, 1, "b")
    unsure = dataclasses.replace(held, votes=np.where(held.votes > 0, 2 / 3, 1 / 3) * [1, 1, 0])
    sure = encoder.train(train, test, recipe(tiny))
    fitted = encoder.train(train, test, recipe(tiny), held_out=unsure)
    assert fitted.temperature > 2
    assert fitted.logits(["the happy"]) == pytest.approx(sure.logits(["the happy"]))
    scores = [np.abs(each.predict(held.documents["text"]) - unsure.votes).mean() for each in (sure, fitted)]
    assert scores[1] < scores[0] - 0.1
    assert encoder.train(train, test, recipe(tiny, targets="aggregate"), held_out=unsure).temperature == 1


def test_documents_without_targets_are_left_out_or_all_there_is(tiny):
    train, test = corpus(40, 0, "a"), corpus(4, 1, "b")
    votes = train.votes.copy()
    votes[:10] = np.nan
    some = dataclasses.replace(train, votes=votes)
    fitted = encoder.train(some, test, recipe(tiny, epochs=1))
    assert len(fitted.losses) == 4  # batches of 8 of 30 documents
    none = dataclasses.replace(train, votes=np.full_like(votes, np.nan))
    with pytest.raises(EncoderError, match="0 of 40 documents have votes"):
        encoder.train(none, test, recipe(tiny))
    assert len(encoder.train(none, test, recipe(tiny, epochs=1, targets="aggregate")).losses) == 5


def test_bad_recipes_are_refused(tiny):
    train, test = corpus(30, 0, "a"), corpus(4, 1, "b")
    for given, message in (
        ({"head": "cls"}, "head='cls'"),
        ({"targets": "gold"}, "targets='gold'"),
        ({"epochs": 0}, "epochs=0"),
    ):
        with pytest.raises(EncoderError, match=message):
            recipe(tiny, **given)
    for given, message in (
        ({"frozen_layers": 3}, "2 layers"),
        ({"max_tokens": 60}, "40 tokens"),
        ({"encoder": str(tiny / "nowhere")}, "could not be loaded"),
        ({"encoder_rate": 1e30}, "lower encoder_rate"),
    ):
        with pytest.raises(EncoderError, match=message):
            encoder.train(train, test, recipe(tiny, **given))
    unknown = dataclasses.replace(train, labels=("joy", "fear", "zzz"))
    with pytest.raises(EncoderError, match="does not know label 'zzz'"):
        encoder.train(unknown, dataclasses.replace(test, labels=unknown.labels), recipe(tiny, head="demux"))


def test_frozen_layers_stay_as_they_are(tiny):
    before = BertModel.from_pretrained(tiny).state_dict()
    fitted = encoder.train(corpus(30, 0, "a"), corpus(4, 1, "b"), recipe(tiny, epochs=1, frozen_layers=1))
    after = fitted.network.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith(("embeddings", "encoder.layer.0")) for name in moved)
    assert any(name.startswith("encoder.layer.1") for name in moved)


def test_frozen_encoder_with_logistic_regression(tiny):
    train, test = corpus(200, 0, "a"), corpus(40, 1, "b")
    predicted, few = encoder.frozen(train, [test, test.take([1, 0])], str(tiny), max_tokens=16)
    assert predicted.shape == (40, 3) and (predicted[:, 2] == 0).all()
    assert few == pytest.approx(predicted[[1, 0]], abs=1e-4)
    assert ((predicted[:, :2] >= 0.5) == test.gold[:, :2]).mean() > 0.8
    states = encoder.embed(test.documents["text"], str(tiny), max_tokens=16)
    assert np.linalg.norm(states, axis=1) == pytest.approx(np.ones(40))


def test_recipe_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(Recipe())))["encoder"] == "minilm"


def test_views_are_trained_without_held_out_documents_and_blend_beats_the_base_rate(tiny):
    train, aside, natural = corpus(240, 0, "a"), corpus(80, 2, "c"), corpus(50, 1, "b")
    rng = np.random.default_rng(0)
    noisy = [np.where(each.votes > 0, rng.choice([2 / 3, 1], each.votes.shape), 0) for each in (train, aside)]
    train, aside = (dataclasses.replace(each, votes=votes) for each, votes in zip((train, aside), noisy, strict=True))
    recipes = {"encoder_soft": recipe(tiny, epochs=3), "bert_demux": recipe(tiny, epochs=3, targets="aggregate")}
    held, tested = encoder.train_views(train, [aside, natural], recipes, aside)
    assert list(held) == list(tested) == ["encoder_soft", "bert_demux", "frozen_encoder", "tfidf"]
    chosen = ("encoder_soft", "tfidf")
    blend = stacking.fit_blend({name: held[name] for name in chosen}, aside.votes)
    found = stacking.apply(blend, {name: tested[name] for name in chosen})
    rates = np.tile(noisy[0].mean(axis=0), (50, 1))
    assert metrics.l1(found, natural.votes).mean() < metrics.l1(rates, natural.votes).mean() - 0.3
    with pytest.raises(EncoderError, match="by id"):
        encoder.train_views(train, [aside, natural], recipes, train.take([0]))
