"""Every decoder family: whether it is packed or padded is said here, and its logits are those of plain transformers."""

import copy

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from mlutils.tracing import models, padded
from mlutils.tracing.engine import Draft, PackedEngine, shared_beginning
from mlutils.tracing.engines import start_engine
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine
from tests.tracing.families import PACKED, PADDED, TOKENIZER, build

SELECT, NEW = list(range(100)), 4
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=50, factor=8.0)
LONGROPE |= dict(short_factor=[1.0] * 4, long_factor=[2.0, 4.0, 8.0, 16.0])
# What else a config may say: name -> family, changes, whether it is packed.
VARIANTS = {
    "granite-16": ("granite", dict(logits_scaling=16.0), True),
    "granite-times-8": ("granite", dict(logits_scaling=0.125), True),
    "llama-with-a-name-of-granite": ("llama", dict(logits_scaling=16.0, final_logit_softcapping=0.1), True),
    "llama-yarn": ("llama", dict(rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0)), True),
    "llama-longrope": ("llama", dict(rope_parameters=LONGROPE), False),
    "mistral-whole": ("mistral", dict(sliding_window=None), True),
    "mistral-window": ("mistral", dict(sliding_window=8), True),
    "qwen2-window": ("qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1), True),
    "gemma2-capped": ("gemma2", dict(final_logit_softcapping=0.2), False),
    "cohere-16": ("cohere", dict(logit_scale=16.0), False),
}
# Those that cannot be packed, by how they are asked.
WAYS = {
    "shared": ["gemma2", "gpt_oss", "bloom", "mpt", "gpt2", "moshi"],
    "padded": ["mamba"],
    "alone": ["rwkv", "roberta"],
}
CASES = [(family, family, {}, True) for family in PACKED]
CASES += [(family, family, {}, False) for family in PADDED]
CASES += [(name, *variant) for name, variant in VARIANTS.items()]


def sequences(n=5, prefix=40, longest=40):
    rng = np.random.default_rng(0)
    shared = rng.integers(5, 100, prefix).tolist()
    return [shared + rng.integers(5, 100, rng.integers(1, longest)).tolist() for _ in range(n)]


def plain(network, sequence):
    """The network's own logits behind one prompt, and nothing of ours."""
    with torch.inference_mode():
        return network(input_ids=torch.tensor([sequence])).logits[0, -1].double().numpy()


def check(network, engine):
    """Asserts that questions and answers have the network's own logits within 1e-4."""
    asked = sequences()
    own = copy.deepcopy(network)  # some networks remember the longest prompt that they saw
    for sequence, (logits, normaliser) in zip(asked, engine.read([[s] for s in asked], SELECT), strict=True):
        wanted = plain(own, sequence)
        assert np.abs(logits[0] - wanted[SELECT]).max() < 1e-4
        assert abs(normaliser[0] - np.logaddexp.reduce(wanted)) < 1e-4
    for sequence, written in zip(asked, engine.write(asked, SELECT, lambda t: False, NEW, Draft()), strict=True):
        assert len(written.tokens) == NEW
        for at in range(NEW):
            wanted = plain(own, sequence + written.tokens[:at])
            assert written.tokens[at] == wanted.argmax()
            assert np.abs(written.logits[at] - wanted[SELECT]).max() < 1e-4


@pytest.mark.parametrize("family, changes, packed", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_logits_are_the_networks_own(family, changes, packed):
    network = build(family, **changes)
    assert models.has_plain_attention(network.config) == packed
    assert models.is_causal(network)
    model = Model(family, network, TOKENIZER, "test", packed)
    engine = start_engine(model)
    assert type(engine) is (PackedEngine if packed else PaddedEngine)
    check(network, engine)
    if packed:
        check(network, PackedEngine(model, row=20))  # documents are cut between passes


@pytest.mark.parametrize("family", PACKED)
def test_logits_of_packed_families_depend_on_what_stands_before(family):
    """Without this, the test above could pass for networks that see one token."""
    network, (sequence,) = build(family), sequences(1)
    assert np.abs(plain(network, sequence) - plain(network, [*sequence[:-3], 9, *sequence[-2:]])).max() > 0.01


@pytest.mark.parametrize("family", ["cohere", "nanochat", "gemma"])
def test_the_head_is_the_networks_own_where_a_family_is_packed_that_is_not_yet(family):
    network = build(family)
    check(network, PackedEngine(Model(family, network, TOKENIZER, "test", True)))


@pytest.mark.parametrize("family", ["granite-16", "cohere-16", "gemma2-capped"])
def test_a_head_that_does_more_than_multiply_shows(family):
    """Without this, the tests above could pass with scales and caps that do nothing."""
    kind, changes, _ = VARIANTS[family]
    network = build(kind, **changes)
    last = network.get_decoder()(input_ids=torch.tensor([sequences(1)[0]])).last_hidden_state[0, -1]
    assert np.abs(network.get_output_embeddings()(last).numpy() - plain(network, sequences(1)[0])).max() > 0.1


def test_all_that_is_packed_is_tested():
    assert set(PACKED) == models.PLAIN


@pytest.mark.parametrize("family, way", [(f, w) for w, families in WAYS.items() for f in families])
def test_ways_of_asking(family, way, capsys):
    engine = PaddedEngine(Model(family, build(family), TOKENIZER, "test", False))
    assert engine.way == way and engine.tokens == engine.passes == 0
    assert ("padding changes its answers" in capsys.readouterr().out) == (way == "alone")


def test_a_shared_beginning_is_computed_once():
    model = Model("bloom", build("bloom"), TOKENIZER, "test", False)
    engine, asked = PaddedEngine(model), sequences(10, prefix=300)
    beginning = shared_beginning(asked)
    behind = sum(len(sequence) - beginning for sequence in asked)
    engine.read([[s, s + [7], s + [8, 9]] for s in asked], SELECT)
    # The last token of a document is asked with each of its questions, which pad it.
    assert engine.tokens == beginning + behind + 10 * (3 + 3 - 1)
    read = engine.tokens
    engine.write(asked, SELECT, lambda t: False, NEW, Draft())
    assert engine.tokens - read <= behind + 10 * 2 * NEW  # drafts, not all of which are accepted
    whole = sum(3 * len(s) + 3 for s in asked) + sum(len(s) + NEW - 1 for s in asked)
    assert whole > 5 * engine.tokens


@pytest.mark.parametrize("prompt", [range(5, 9), [5] * 12])
def test_a_cache_that_forgets_what_attention_does_not_is_not_used(prompt, monkeypatch):
    """Moshi's plain pass has no window, transformers' cache has: answers changed where they were longer than it."""
    network = build("moshi", sliding_window=8)
    monkeypatch.setattr(padded, "DynamicCache", lambda: DynamicCache(config=network.config))
    engine = PaddedEngine(Model("moshi", network, TOKENIZER, "test", False))
    assert engine.way == "shared"
    (written,) = engine.write([list(prompt)], SELECT, lambda t: False, 5, Draft())
    assert engine.way == "alone" == PaddedEngine(engine.model).way
    assert written.tokens == [int(plain(network, [*prompt, *written.tokens[:at]]).argmax()) for at in range(5)]


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "cohere2_moe"])
def test_windows_that_attention_has_too_are_shared(family):
    engine = PaddedEngine(Model(family, build(family), TOKENIZER, "test", False))
    engine.write(sequences(2), SELECT, lambda t: False, 2, Draft())
    assert engine.way == "shared" and engine.model.network.config.get_text_config().sliding_window == 8
