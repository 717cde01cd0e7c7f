import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from mlutils.training.encoder_network import Inputs, Network, intra_label_loss, loss
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mlutils.corpora import Corpus
from mlutils.training import encoder, encoder_loop
from mlutils.training.encoder import EncoderError, Recipe

LABELS = ("joy", "fear", "disgust")
WORDS = ["today", "train", "home", "happy", "scared", "joy", "fear", "dis", "##gust", "##gut", "the"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random BERT of two layers in a folder, whose vocabulary cuts "disgust" in two."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer, pieces.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=pieces, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def corpus(documents, seed, prefix, single_label=False):
    """Documents whose words tell the first two labels; nobody ever chooses the third."""
    rng = np.random.default_rng(seed)
    joy = rng.random(documents) < 0.5
    fear = ~joy if single_label else rng.random(documents) < 0.5
    texts = [
        " ".join(
            ["the", *(["happy"] if j else []), *(["scared"] if f else []), *rng.choice(WORDS[:3], 3), f"{prefix}{i}"]
        )
        for i, (j, f) in enumerate(zip(joy, fear, strict=True))
    ]
    gold = np.stack([joy, fear, np.zeros(documents, bool)], axis=1)
    return Corpus(
        name="made",
        split="train",
        sample="all",
        labels=LABELS,
        documents=pd.DataFrame({"id": [f"{prefix}{i}" for i in range(documents)], "text": texts}),
        gold=gold,
        votes=gold.astype(float),
        annotators=np.full(documents, 3),
        single_label=single_label,
    )


def recipe(tiny, **given):
    usual = {"encoder": str(tiny), "epochs": 8, "batch": 8, "encoder_rate": 1e-3, "head_rate": 1e-2, "max_tokens": 16}
    return Recipe(**(usual | given))


@pytest.mark.parametrize("head", ["pooled", "demux"])
def test_loss_falls_and_labels_are_learnt(tiny, head):
    train, test = corpus(240, 0, "a"), corpus(60, 1, "b")
    fitted = encoder.train(train, test, recipe(tiny, head=head))
    steps = np.array(fitted.losses)
    assert steps[-10:].mean() < steps[:10].mean() - 0.3
    predicted = fitted.predict(test.documents["text"])
    assert ((predicted >= 0.5) == test.gold).mean() > 0.9
    assert fitted.constant_labels == ["disgust"] and (predicted[:, 2] == 0).all()
    assert fitted.counts == {"trained": 240, "without_targets": 0} and fitted.temperature == 1


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

    calls = {"left": 5}

    def killed(*given):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise KeyboardInterrupt
        return loss(*given)

    with monkeypatch.context() as patch:
        patch.setattr(encoder_loop, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "cut", checkpoint_every=3)
    torch.manual_seed(123)  # whatever happened in between
    resumed = encoder.train(train, test, recipe(tiny, epochs=2), folder=tmp_path / "cut", checkpoint_every=3)
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
        encoder.check_disjoint(train, [dataclasses.replace(test, labels=("joy", "fear", "anger"))])


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


def test_demux_reads_each_label_at_its_own_tokens(tiny):
    model = BertModel.from_pretrained(tiny)
    model.embeddings.position_embeddings.weight.data.zero_()  # order does not matter, only which token it is
    _, built = encoder._build(recipe(tiny, head="demux"), LABELS, np.zeros(3))
    tokenizer = encoder.AutoTokenizer.from_pretrained(tiny)
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        inputs = Inputs(tokenizer, [LABELS[i] for i in order], "demux", 16)
        network = Network(model, inputs.spans, np.array([0.1, 0.2, 0.3])[order]).eval()
        network.hidden, network.score = built.hidden, built.score
        with torch.no_grad():
            logits = network(inputs.collate(inputs.encode(["the happy train", "scared"])))
        found.append(logits.numpy()[:, np.argsort(order)])
        assert inputs.split == ["disgust"]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert np.ptp(found[0] - [0.1, 0.2, 0.3], axis=1).min() > 1e-4  # not one score for all

    inputs = Inputs(tokenizer, LABELS, "demux", 16)
    assert inputs.spans == [(1, 2), (2, 3), (3, 5)]
    ids = inputs.encode(["happy home"])[0]
    words = tokenizer.convert_ids_to_tokens(ids)
    assert words == ["[CLS]", "joy", "fear", "dis", "##gust", "[SEP]", "happy", "home", "[SEP]"]
    assert inputs.collate([ids])["token_type_ids"][0].tolist() == [0] * 6 + [1] * 3


def test_demux_score_is_the_mean_over_a_labels_pieces():
    class Fixed(torch.nn.Module):
        config = BertConfig(hidden_size=2)

        def forward(self, input_ids, **_):
            states = torch.tensor([[[9.0, 9.0], [0.2, 0.0], [0.4, 0.6], [9.0, 9.0]]])
            return type("Output", (), {"last_hidden_state": states})

    network = Network(Fixed(), [(1, 3)], np.array([0.5])).eval()
    network.hidden, network.score.weight.data = torch.nn.Identity(), torch.tensor([[1.0, 2.0]])
    batch = {name: torch.ones(1, 4, dtype=int) for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert network(batch).item() == pytest.approx(np.tanh(0.3) + 2 * np.tanh(0.3) + 0.5)


def test_intra_label_loss_against_loops():
    rng = np.random.default_rng(0)
    q, gold = rng.random((20, 4)), (rng.random((20, 4)) < 0.5).astype(float)
    gold[0], gold[1] = 0, 1
    wanted = []
    for scores, truth in zip(q, gold, strict=True):
        total = 0.0
        for value, sign in ((0, 1), (1, -1)):
            group = [score for score, each in zip(scores, truth, strict=True) if each == value]
            pairs = [np.exp(sign * (a + b)) for i, a in enumerate(group) for b in group[i + 1 :]]
            total += 0.5 * np.mean(pairs) if pairs else 0.0
        wanted.append(total)
    found = intra_label_loss(torch.tensor(q), torch.tensor(gold)).numpy()
    assert found == pytest.approx(np.array(wanted))


def test_loss_of_both_kinds_by_hand():
    logits, one = torch.tensor([[0.0, np.log(3.0)]]), torch.ones(1)
    targets, gold = torch.tensor([[1 / 3, 1.0]]), torch.tensor([[0.0, 1.0]])
    binary = (np.log(2) - np.log(0.75)) / 2
    assert loss(logits, targets, gold, one).item() == pytest.approx(binary)
    assert loss(logits, targets, gold, one, intra=0.2).item() == pytest.approx(binary)  # no pair in a group
    shares = torch.tensor([[0.25, 0.75]])
    wanted = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert loss(logits, shares, gold, one, single_label=True).item() == pytest.approx(wanted)


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


def test_documents_without_targets_are_counted_or_all_there_is(tiny):
    train, test = corpus(40, 0, "a"), corpus(4, 1, "b")
    votes = train.votes.copy()
    votes[:10] = np.nan
    some = dataclasses.replace(train, votes=votes)
    fitted = encoder.train(some, test, recipe(tiny, epochs=1))
    assert fitted.counts == {"trained": 30, "without_targets": 10}
    none = dataclasses.replace(train, votes=np.full_like(votes, np.nan))
    with pytest.raises(EncoderError, match="0 of 40 documents have votes"):
        encoder.train(none, test, recipe(tiny))
    assert encoder.train(none, test, recipe(tiny, epochs=1, targets="aggregate")).counts["trained"] == 40


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


def test_design_weights_even_out_the_strata():
    train = corpus(4000, 0, "a")
    rng = np.random.default_rng(0)
    votes = np.zeros((4000, 3))
    votes[:400] = rng.choice([1 / 3, 2 / 3], (400, 1))  # disagree, no label or several
    votes[400:600, 0] = 1  # one label, agree
    train = dataclasses.replace(train, votes=votes, gold=votes >= 0.5)
    weights = encoder.design_weights(train)
    assert weights.mean() == pytest.approx(1)
    agree_none = (votes == 0).all(axis=1)
    parts = [agree_none, votes[:, 1] == 1 / 3, votes[:, 1] == 2 / 3, votes[:, 0] == 1]
    assert [weights[part].sum() / 4000 for part in parts] == pytest.approx([0.25] * 4)


def test_recipe_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(Recipe())))["encoder"] == "minilm"
