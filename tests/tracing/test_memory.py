"""The budget of memory: what is free and what a token takes by hand, and what engines hold measured against it."""

import numpy as np
import pytest
import torch

from mlutils.tracing import memory
from mlutils.tracing.engine import Draft, PackedEngine
from mlutils.tracing.models import Model
from tests.tracing import families

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", families.PACKED)
def test_a_token_takes_what_is_held_of_it(family):
    model = Model(family, families.build(family), families.TOKENIZER, "test", True)
    engine = PackedEngine(model)
    engine.read([[list(range(5, 40))], [list(range(6, 30))]], [0])
    kept = engine._held.store.kept.values()
    assert {each.shape[::2] for keys in kept for each in keys} == {(2, 64)}
    keys_and_values = sum(each.nbytes for both in kept for each in both) / (2 * 64)
    states = engine._held.trees[0].states[0]
    assert memory.count_bytes(model) == keys_and_values + states[0].nbytes


def test_a_budget_by_hand(llama, monkeypatch):
    # 2 layers x 2 key heads x 12 numbers, keys and values, and 48 of the state, 4 bytes each.
    assert memory.count_bytes(llama) == (2 * 2 * 2 * 12 + 48) * 4 == 576
    needed = memory._count_pass(llama, 100)
    assert needed > 100 * 4 * (48 + 96) + 8 * memory.READ
    for documents, tokens in ((1000 * 576, 1000), (0, 512), (-5, 512), (10**12, 16384)):
        monkeypatch.setattr(memory, "measure_free", lambda device, free=4 * documents + needed: free)
        assert memory.plan(llama, 100) == memory.Budget(tokens, 4 * documents + needed, 576)
        assert PackedEngine(llama, row=100).most == tokens
    monkeypatch.setattr(memory, "measure_free", lambda device: 100 * 576)
    engine = PackedEngine(llama)
    assert len(engine.read([[list(range(5, 50))]], [0])) == 1
    with pytest.raises(MemoryError, match=r"is 192 tokens, .*0.0 GiB are free: take shorter documents"):
        engine.read([[list(range(5, 50))], [list(range(4, 150))]], [0])
    with pytest.raises(MemoryError, match="pairs sparse"):
        engine.write([list(range(5, 50))], [0], lambda tokens: False, 120, Draft())


def test_little_memory_is_told(llama, monkeypatch, capsys):
    PackedEngine(llama)
    assert not capsys.readouterr().out
    monkeypatch.setattr(memory, "measure_free", lambda device: 2**20)
    PackedEngine(llama)
    assert "random-llama: memory for 512 tokens at once, 16,384 would be faster" in capsys.readouterr().out


@pytest.mark.parametrize("most", [512, 2000])
def test_short_documents_stay_inside_what_may_be_held(llama, most, monkeypatch):
    sizes, grow = [], PackedEngine._run

    def run(self, trees, store):
        grow(self, trees, store)
        sizes.extend(keys.shape[0] * keys.shape[2] for keys, _ in store.kept.values())

    monkeypatch.setattr(PackedEngine, "_run", run)
    engine = PackedEngine(llama, most=most)
    asked = [[5, 6, 7 + n] for n in range(60)] + [list(range(5, 5 + n)) for n in range(40, 100)]
    engine.read([[sequence, [*sequence, 9]] for sequence in asked], [0])
    engine.write(asked, [0], lambda tokens: False, 5, Draft([[3, 4, n, n, n] for n in range(4)]))
    assert max(sizes) <= most and max(sizes) > most / 2


@pytest.mark.parametrize("numbers", [1, 3000])
def test_logits_are_read_in_parts(llama, numbers, monkeypatch):
    groups = [[[5, 6, 7 + n], [5, 6, 7 + n, 8]] for n in range(20)]
    whole = PackedEngine(llama).read(groups, range(30))
    monkeypatch.setattr(memory, "READ", numbers)
    for got, wanted in zip(PackedEngine(llama).read(groups, range(30)), whole, strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert np.abs(a - b).max() < 1e-5
