"""The engine against one prompt at a time, in float32: same logits, same words, and no token asked twice."""

import copy
import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, LlamaConfig, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from mlutils.tracing import models
from mlutils.tracing.engine import BadLogits, Draft, PackedEngine, shared_beginning
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.passes import Tree
from tests.tracing import families

NEW = 24


def sequences(n, prefix=60, seed=0, vocabulary=250):
    """Returns prompts that share a prefix and then differ in content and length."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(5, vocabulary, prefix).tolist()
    return [shared + rng.integers(5, vocabulary, rng.integers(1, 40)).tolist() for _ in range(n)]


def naive_logits(model, sequence):
    with torch.inference_mode():
        return model.network(torch.tensor([sequence])).logits[0, -1].double().numpy()


@cache
def _plain(network, sequence):
    with torch.inference_mode():
        return network(torch.tensor([sequence])).logits[0, -1].double().numpy()


def plain_logits(model, sequence):
    """As `naive_logits`, once a sequence."""
    return _plain(model.network, sequence)


def naive_answer(model, sequence, limit=NEW, finished=lambda tokens: False):
    """Greedy decoding, one token and one whole prompt at a time."""
    said, logits = [], []
    for _ in range(limit):
        logits.append(naive_logits(model, sequence + said))
        said.append(int(logits[-1].argmax()))
        if finished(said):
            break
    return said, np.array(logits)


@pytest.fixture(scope="module", params=["packed", "padded"])
def engine(request, llama):
    never_ends = copy.deepcopy(llama)  # the network is shared by all tests
    never_ends.network.generation_config.eos_token_id = None
    return PackedEngine(never_ends, row=200) if request.param == "packed" else PaddedEngine(never_ends)


def test_logits_are_those_of_plain_prompts(engine, llama):
    prompts = sequences(10)
    tails = [[7, 8, 9], [7, 8, 11, 12], [7], [30, 31]]
    groups = [[prompt + tail for tail in tails] for prompt in prompts]
    select = list(range(0, 250, 7))
    for group, (logits, normaliser) in zip(groups, engine.read(groups, select), strict=True):
        for k, sequence in enumerate(group):
            plain = naive_logits(llama, sequence)
            assert np.abs(logits[k] - plain[select]).max() < 1e-4
            assert abs(normaliser[k] - np.logaddexp.reduce(plain)) < 1e-4


def test_answers_are_greedy_and_so_are_their_logits(engine, llama):
    prompts, select = sequences(10, seed=1), list(range(50))

    def finished(tokens):
        return tokens[-1] % 13 == 0

    draft = Draft([naive_answer(llama, prompts[0])[0], [1, 2, 3], naive_answer(llama, prompts[3])[0][:5] + [4, 4]])
    for prompt, written in zip(prompts, engine.write(prompts, select, finished, NEW, draft), strict=True):
        said, logits = naive_answer(llama, prompt, finished=finished)
        assert written.tokens == said
        assert np.abs(written.logits - logits[:, select]).max() < 1e-4
        assert np.abs(written.normaliser - np.logaddexp.reduce(logits, axis=1)).max() < 1e-4
        assert written.complete == finished(said)
        with torch.inference_mode():
            states = llama.network.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        assert torch.allclose(written.states[0], states, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_words_and_logits_of_a_cpu(llama):
    prompts, select, never = sequences(6, seed=4), list(range(50)), lambda tokens: False
    on_gpu = dataclasses.replace(llama, network=copy.deepcopy(llama.network).to("cuda"))
    here, there = (PackedEngine(model).write(prompts, select, never, NEW, Draft()) for model in (llama, on_gpu))
    for ours, theirs in zip(here, there, strict=True):
        assert ours.tokens == theirs.tokens
        assert np.abs(ours.logits - theirs.logits).max() < 1e-4


def test_a_draft_changes_passes_but_not_words(llama):
    prompts = sequences(8, seed=2)
    plain, drafted = PackedEngine(llama), PackedEngine(llama)
    never = lambda tokens: False  # noqa: E731
    without = plain.write(prompts, [0], never, NEW, Draft())
    known = Draft([written.tokens for written in without])
    again = drafted.write(prompts, [0], never, NEW, known)
    assert [written.tokens for written in again] == [written.tokens for written in without]
    assert drafted.passes < plain.passes / 2


def test_the_end_of_text_token_ends_an_answer(llama):
    (prompt,) = sequences(1, seed=3)
    said, _ = naive_answer(llama, prompt)
    model = copy.deepcopy(llama)
    model.network.generation_config.eos_token_id = said[4]
    first = said.index(said[4])
    for engine in (PackedEngine(model), PaddedEngine(model)):
        (written,) = engine.write([prompt], [0, 1], lambda tokens: False, NEW, Draft())
        assert written.tokens == said[:first] and written.complete
        assert len(written.logits) == len(written.normaliser) == len(written.states) == first + 1


def test_equal_prompts_and_prompts_within_prompts(llama):
    long = sequences(1, seed=4)[0]
    prompts = [long, long, long[:-5], long[:30]]
    engine = PackedEngine(llama)
    for prompt, written in zip(prompts, engine.write(prompts, [0], lambda t: False, 8, Draft()), strict=True):
        assert written.tokens == naive_answer(llama, prompt, 8)[0]


def test_tokens_are_counted_and_never_asked_twice(llama):
    prompts = sequences(12, prefix=300, seed=5)
    prefix = shared_beginning(prompts)
    tails = [[7, 8, 9, 10], [7, 8, 11], [12, 13]]
    engine = PackedEngine(llama, row=200)
    groups = [[prompt + tail for tail in tails] for prompt in prompts]
    for at in (0, 4, 8):  # as a trace does, part by part
        engine.read(groups[at : at + 4], [0])
    documents = sum(len(prompt) - prefix for prompt in prompts)
    # 4 + 1 + 2 tokens of questions: [7, 8] stands in two of them and is asked once.
    most = prefix + documents + len(prompts) * 7
    assert engine.tokens <= most + 3 * 8, "the prefix or a document was computed more than once"
    assert engine.tokens >= documents


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_the_same_whatever_the_batch(data, llama):
    """Documents in any order, alone or together, all questions or every other one, passes and budgets of any size."""
    prompts, tails = sequences(24, prefix=50, seed=10), [[7, 8, 9, 10], [7, 8, 11], [12, 13], [5]]
    chosen = data.draw(st.permutations(range(24)))[: data.draw(st.sampled_from([1, 4, 24]))]
    asked = tails[:: data.draw(st.sampled_from([1, 2]))]
    most = data.draw(st.sampled_from([1, 130, 400, 16384]))
    engine = PackedEngine(llama, row=data.draw(st.sampled_from([16, 60, 256])), most=most)
    for number, (logits, normaliser) in zip(
        chosen, engine.read([[prompts[n] + tail for tail in asked] for n in chosen], range(30)), strict=True
    ):
        for k, tail in enumerate(asked):
            plain = plain_logits(llama, tuple(prompts[number] + tail))
            assert np.abs(logits[k] - plain[:30]).max() < 1e-4
            assert abs(normaliser[k] - np.logaddexp.reduce(plain)) < 1e-4
    for number, written in zip(
        chosen, engine.write([prompts[n] for n in chosen], range(30), lambda t: False, 3, Draft()), strict=True
    ):
        for at in range(3):
            plain = plain_logits(llama, tuple(prompts[number] + written.tokens[:at]))
            assert written.tokens[at] == plain.argmax()
            assert np.abs(written.logits[at] - plain[:30]).max() < 1e-4


@pytest.mark.parametrize("family", ["gemma3_text", "mistral"])
@pytest.mark.parametrize("length", [200, 1500])
def test_sliding_windows_are_packed_exactly(family, length):
    """Documents behind a beginning that is longer than the window, and some that are longer than it themselves."""
    # Of Gemma's two layers one sees a window and one all, each with a rotary base of its own.
    changes = dict(sliding_window=120, max_position_embeddings=2048, num_hidden_layers=2)
    changes |= dict(layer_types=["sliding_attention", "full_attention"]) if family == "gemma3_text" else {}
    model = models.Model(family, families.build(family, 250, **changes), families.TOKENIZER, "test", True)
    assert models.has_plain_attention(model.network.config) and models.has_windows(model.network.config)
    rng = np.random.default_rng(0)
    prompts = [prompt + rng.integers(5, 250, 150).tolist() * (n % 2) for n, prompt in enumerate(sequences(4, length))]
    engine = PackedEngine(model, row=100)
    groups = [[prompt, prompt + [7, 8], prompt + [7, 9, 10]] for prompt in prompts]
    for group, (logits, _) in zip(groups, engine.read(groups, range(30)), strict=True):
        for sequence, found in zip(group, logits, strict=True):
            assert np.abs(found - naive_logits(model, sequence)[:30]).max() < 1e-4
    for prompt, written in zip(prompts, engine.write(prompts, range(30), lambda t: False, 6, Draft()), strict=True):
        said, logits = naive_answer(model, prompt, 6)
        assert written.tokens == said and np.abs(written.logits - logits[:, :30]).max() < 1e-4


def test_a_new_prefix_replaces_the_old_one(llama):
    engine = PackedEngine(llama, row=100)
    for seed in (6, 7, 6):
        prompts = sequences(4, prefix=120, seed=seed)
        for prompt, (logits, _) in zip(prompts, engine.read([[p] for p in prompts], range(20)), strict=True):
            assert np.abs(logits[0] - naive_logits(llama, prompt)[:20]).max() < 1e-4


def test_a_document_with_nan_is_lost_alone(llama):
    broken = copy.deepcopy(llama)

    def spoil(module, inputs, output):
        return output.masked_fill((inputs[0] == 3)[..., None], float("nan"))

    broken.network.get_input_embeddings().register_forward_hook(spoil)
    prompts = sequences(5, seed=8)
    prompts[2] = prompts[2] + [3, 9]
    engine = PackedEngine(broken)
    outcomes = engine.read([[prompt] for prompt in prompts], range(20))
    assert [isinstance(outcome, BadLogits) for outcome in outcomes] == [False, False, True, False, False]
    assert np.abs(outcomes[3][0] - naive_logits(llama, prompts[3])[:20]).max() < 1e-4
    written = engine.write(prompts, [0], lambda tokens: len(tokens) == 1, 3, Draft())
    assert [isinstance(outcome, BadLogits) for outcome in written] == [False, False, True, False, False]


def test_trees_merge_what_is_shared():
    tree = Tree()
    assert tree.add([1, 2, 3]) == [0, 1, 2]
    assert tree.add([1, 2, 4]) == [0, 1, 3]
    assert tree.add([3], parent=1) == [2]
    assert tree.depths == [0, 1, 2, 2]
    assert tree.sees.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, False, True],
    ]
    assert tree.add([7, 8], parent=2) == [4, 5]
    assert tree.sees[5].tolist() == [True, True, True, False, True, True]


def test_drafts_follow_the_most_frequent_answer():
    draft = Draft([[1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 6], [9]])
    assert draft.propose([], 10) == [1, 2, 4]  # 5 follows in a quarter of the answers only
    assert draft.propose([1, 2, 4], 10) == [5]
    assert draft.propose([1, 2, 3], 10) == []
    assert draft.propose([1], 2) == [2, 4]


def test_only_plain_attention_is_packed():
    assert models.has_plain_attention(Qwen2Config()) and not models.has_windows(Qwen2Config())
    windows = Qwen2Config(use_sliding_window=True, max_window_layers=0), MistralConfig(sliding_window=16)
    for config in windows:
        assert models.has_plain_attention(config) and models.has_windows(config)
    assert not models.has_windows(MistralConfig(sliding_window=None))
    assert not models.has_plain_attention(LlamaConfig(layer_types=["full_attention", "chunked_attention"] * 16))
    assert not models.has_plain_attention(BloomConfig())


@pytest.mark.parametrize("family", ["qwen2", "sliding"])
def test_other_families_by_the_same_code(family, llama):
    torch.manual_seed(1)
    sizes = dict(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    if family == "qwen2":
        network = Qwen2ForCausalLM(Qwen2Config(**sizes))
    else:
        network = MistralForCausalLM(MistralConfig(sliding_window=8, **sizes))
    network.eval()
    for parameter in network.parameters():
        parameter.data *= 3 if parameter.ndim > 1 else 1
    engine = PackedEngine(model := models.Model(family, network, llama.tokenizer, "test", True))
    prompts = sequences(5, seed=9)
    for prompt, (logits, _) in zip(prompts, engine.read([[p] for p in prompts], range(20)), strict=True):
        assert np.abs(logits[0] - naive_logits(model, prompt)[:20]).max() < 1e-4
    for prompt, written in zip(prompts, engine.write(prompts, [0], lambda t: False, 8, Draft()), strict=True):
        assert written.tokens == naive_answer(model, prompt, 8)[0]


def test_who_goes_on_with_a_document_pays_for_what_is_new(llama):
    engine, asked = PackedEngine(llama), sequences(6, prefix=100, seed=12)
    written = engine.write(asked, range(20), lambda tokens: False, 4, Draft())
    before = engine.tokens
    groups = [
        [prompt + answer.tokens[:2] + [n], prompt + [n, 7]]
        for n, (prompt, answer) in enumerate(zip(asked, written, strict=True))
    ]
    for group, (logits, _) in zip(groups[::2], engine.read(groups[::2], range(20)), strict=True):
        for sequence, found in zip(group, logits, strict=True):
            assert np.abs(found - naive_logits(llama, sequence)[:20]).max() < 1e-4
    assert engine.tokens - before <= 3 * 3
    for row, other in ((16, 13), (256, 12)):  # other documents behind the same beginning, then other beginnings
        engine.row = row
        groups = [[prompt, prompt + [5, 6]] for prompt in sequences(5, prefix=100, seed=other)]
        for group, (logits, _) in zip(groups, engine.read(groups, range(20)), strict=True):
            for sequence, found in zip(group, logits, strict=True):
                assert np.abs(found - naive_logits(llama, sequence)[:20]).max() < 1e-4


def test_what_is_held_is_bounded(llama):
    engine, asked = PackedEngine(llama, most=300), sequences(6, prefix=100, seed=14)
    for tail in range(5, 40, 5):
        groups = [[[*prompt, *range(5, 5 + tail), n] for n in range(4)] for prompt in asked]
        for group, (logits, _) in zip(groups, engine.read(groups, range(20)), strict=True):
            assert np.abs(logits[1] - naive_logits(llama, group[1])[:20]).max() < 1e-4
        trees = engine._held.trees
        assert len(trees) == 1 or len(trees) * max(len(tree.tokens) for tree in trees) <= 300


def test_a_document_at_rest_may_be_longer_than_its_neighbours(llama):
    engine, asked = PackedEngine(llama), sequences(3, prefix=100, seed=15)
    engine.read([[prompt] for prompt in asked], [0])
    held = [engine.prefix.tokens + tree.begins for tree in engine._held.trees]
    engine.read([[held[1] + list(range(5, 60))]], [0])
    outer = [[held[0] + [7]], [held[2] + [7]]]
    for (sequence,), (logits, _) in zip(outer, engine.read(outer, range(20)), strict=True):
        assert np.abs(logits[0] - naive_logits(llama, sequence)[:20]).max() < 1e-4
    assert len(engine._held.trees) == 3
