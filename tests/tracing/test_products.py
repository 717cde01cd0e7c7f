"""Packed products against plain ones, in float32: the same numbers, whatever is packed."""

import copy

import pytest
import torch

from mlutils.tracing import models, products
from tests.tracing.families import build

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
PACKS = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@PACKS
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "cohere2", "phi"])
@pytest.mark.parametrize("tied", [True, False])
def test_packed_networks_give_the_same_logits(family, tied, monkeypatch):
    network = build(family, tie_word_embeddings=tied)
    plain, counted = network(IDS).logits, network.num_parameters()
    monkeypatch.setattr(products, "_gain", lambda *layers: 2.0)
    packed = copy.deepcopy(network)
    assert products.choose(packed) == products.choose(packed) == "packed"
    assert not any(type(layer) is torch.nn.Linear for layer in packed.modules())
    assert packed.num_parameters() == counted
    assert torch.allclose(packed(IDS).logits, plain, atol=1e-4)
    assert (network(IDS).logits == plain).all(), "the network that was copied has changed"


def test_a_large_head_that_is_the_embeddings_stays(monkeypatch):
    monkeypatch.setattr(products, "_gain", lambda *layers: 2.0)
    monkeypatch.setattr(products, "SPARE", 100)
    network = build("llama", tie_word_embeddings=True)
    products.choose(network)
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    assert type(network.get_decoder().layers[0].mlp.up_proj) is products.PackedLinear


def test_what_is_not_faster_or_not_float32_stays(monkeypatch):
    network = build("llama")
    monkeypatch.setattr(products, "_gain", lambda *layers: 1.0)
    assert products.choose(network) == "plain"
    monkeypatch.setattr(products, "_gain", lambda *layers: 2.0)
    assert products.choose(network.to(torch.bfloat16)) == "plain"
    assert type(network.get_decoder().layers[0].mlp.up_proj) is torch.nn.Linear


@PACKS
def test_the_gain_is_the_ratio_of_the_times_of_all_layers(monkeypatch):
    """Plain 1 ms a token but for the head, packed 0.5 ms, and 1 ms in the wide layers (2 of 7)."""
    network = build("llama")
    layers = [module for module in network.modules() if type(module) is torch.nn.Linear]
    wide, head = network.get_decoder().layers[0].mlp.gate_proj.out_features, network.get_output_embeddings()
    tried = []

    def seconds(layer, states):
        tried.append(layer)
        packed = type(layer) is products.PackedLinear
        return len(states) * (0.5 if packed and layer.out_features != wide else 1.0)

    monkeypatch.setattr(products, "_seconds", seconds)
    assert products._gain(network, layers) == pytest.approx(7 / 4.5)
    assert head not in tried


@PACKS
def test_only_a_model_that_is_asked_is_packed(monkeypatch):
    """Whatever the processor: a test, a finetuning and an adapter need a model's own weights."""
    monkeypatch.setattr(products, "_gain", lambda *layers: 2.0)
    own = models.load(models.RANDOM, "cpu", "float32")
    packed = models.load(models.RANDOM, "cpu", "float32", pack=True)
    assert (own.products, packed.products) == ("plain", "packed")
    assert not any(type(layer) is products.PackedLinear for layer in own.network.modules())
    assert any(type(layer) is products.PackedLinear for layer in packed.network.modules())
