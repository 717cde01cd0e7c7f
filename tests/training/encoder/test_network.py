"""The network reads labels where they stand, and its losses are those of the formulas."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from mlutils.training import encoder
from mlutils.training.encoder.network import Inputs, Network, intra_label_loss, loss
from tests.training.encoder.made import LABELS, recipe


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
