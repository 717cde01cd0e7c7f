"""States of all layers at the first label, against plain passes over prompt and answer, in float32."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from mlutils.traces import Trace, TraceError
from mlutils.tracing import prompts, steps, views, vocabulary
from mlutils.tracing.answers import Answer, Said
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import PackedEngine
from mlutils.tracing.hidden import HiddenView
from mlutils.tracing.prompting import Prompting

SIZES = dict(
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    tie_word_embeddings=False,  # with tied ones the random model repeats one letter for ever
)


@pytest.fixture(scope="module", params=["llama", "qwen2", "padded"])
def model(request, llama):
    """Random models of two families that write different gibberish about different documents."""
    kinds = {"qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    config, network = kinds.get(request.param, (LlamaConfig, LlamaForCausalLM))
    end = llama.tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = network(config(vocab_size=len(llama.tokenizer), bos_token_id=None, eos_token_id=end, **SIZES))
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(8)
    return replace(llama, network=made.eval().requires_grad_(False), packed=request.param != "padded")


@pytest.fixture()
def prompting(corpus):
    return Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes"))


def has_label(text):
    return sum(map(ord, text)) % 3 > 0


@pytest.fixture(autouse=True)
def read_gibberish(monkeypatch):
    """A random model never writes a list: take the second quarter of what it writes for a label, or find none."""

    def parse(text, labels, form, complete=True):
        quarter = len(text) // 4
        return Answer((Said(labels[0], quarter, 2 * quarter),) if has_label(text) else (), "ok")

    monkeypatch.setattr(steps, "parse", parse)


def plain_states(model, prompting, row):
    """Returns (layers + 1, H) by one plain pass over the whole prompt and answer; None for no label step."""
    tokenizer, network = model.tokenizer, model.network
    sequence = vocabulary.encode_prompts(tokenizer, [prompting.list_prompt(row)])[0]
    view = steps.ListView(model, prompting)
    draft, limit = view._draft(), prompting.new_tokens
    tokens = PackedEngine(model).write([sequence], [0], view._finished, limit, draft)[0].tokens
    text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    if not has_label(text):
        return None
    before = [i for i in range(len(tokens)) if len(tokenizer.decode(tokens[:i])) <= len(text) // 4]
    with torch.inference_mode():
        ids = torch.tensor([[*sequence, *tokens[: before[-1]]]])
        return torch.stack([state[0, -1] for state in network(ids, output_hidden_states=True).hidden_states]).numpy()


def test_states_are_those_of_plain_passes(model, prompting):
    view = HiddenView(model, prompting)
    tables, states = view.ask(range(6))
    assert tables == {"failures": []}
    assert states.shape == (6, 3, 48) and states.dtype == np.float32
    wanted = [plain_states(model, prompting, row) for row in range(6)]
    silent = [each is None for each in wanted]
    assert 0 < sum(silent) < 6, "the test needs both kinds of answers"
    assert np.isnan(states).all(axis=(1, 2)).tolist() == silent
    for found, plain in zip(states, wanted, strict=True):
        assert plain is None or np.abs(found - plain).max() < 1e-4
    assert view.engine.tokens > 0


def test_embeddings_come_first_and_the_state_of_the_view_list_last(model, prompting):
    _, states = HiddenView(model, prompting).ask(range(12))
    _, last = steps.ListView(model, prompting).ask(range(12))
    assert np.array_equal(np.isnan(states[:, -1]), np.isnan(last))
    assert np.allclose(states[:, -1], last, atol=1e-5, equal_nan=True)
    table = model.network.get_input_embeddings().weight.numpy()
    for state in states[~np.isnan(last).any(1), 0]:
        assert np.abs(table - state).max(axis=1).min() < 1e-6


def test_the_view_costs_what_the_list_costs(model, prompting):
    hidden, plain = HiddenView(model, prompting), steps.ListView(model, prompting)
    hidden.ask(range(12)), plain.ask(range(12))
    if model.packed:
        assert (hidden.engine.tokens, hidden.engine.passes) == (plain.engine.tokens, plain.engine.passes)
    else:  # and one plain pass a document
        assert hidden.engine.passes == plain.engine.passes + 12


def test_documents_do_not_depend_on_their_neighbours(model, prompting):
    view = HiddenView(model, prompting)
    _, together = view.ask(range(8))
    alone = np.concatenate([view.ask([row])[1] for row in reversed(range(8))])[::-1]
    assert np.allclose(together, alone, atol=1e-5, equal_nan=True)


def test_no_hook_stays_on_the_model_even_where_a_pass_fails(model, prompting, monkeypatch):
    view = HiddenView(model, prompting)
    monkeypatch.setattr(view.engine.model.network.get_decoder(), "forward", lambda **given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        view.ask(range(2))
    assert not any(layer._forward_pre_hooks for layer in model.network.get_decoder().layers)


def test_bad_logits_are_failures_of_the_view(model, prompting):
    broken = replace(model, network=copy.deepcopy(model.network))
    broken.network.get_output_embeddings().weight[7] = np.nan
    tables, states = HiddenView(broken, prompting).ask(range(2))
    assert [(each["document"], each["view"]) for each in tables["failures"]] == [("d0", "hidden"), ("d1", "hidden")]
    assert np.isnan(states).all() and states.shape == (2, 3, 48)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_a_trace_keeps_the_states_and_goes_on_where_it_stopped(model, prompting, tmp_path, monkeypatch):
    asked, ask = [], HiddenView.ask

    def ask_twice(view, rows):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(rows)
        return ask(view, rows)

    monkeypatch.setattr(views, "VIEWS", {**views.VIEWS, "hidden": HiddenView})
    monkeypatch.setattr(views, "PART", 12)
    monkeypatch.setattr(HiddenView, "ask", ask_twice)
    with pytest.raises(KeyboardInterrupt):
        views.write_trace(tmp_path, model, prompting, views=["list", "hidden"])
    with pytest.raises(TraceError, match="not finished"):
        Trace(tmp_path)
    monkeypatch.setattr(HiddenView, "ask", lambda view, rows: (asked.append(rows), ask(view, rows))[1])
    trace = views.write_trace(tmp_path, model, prompting, views=["list", "hidden"])
    assert [rows[0] for rows in asked] == [0, 12, 24, 36], "a part was asked twice, or not at all"
    layers = trace.layer_states()
    assert layers.shape == (40, 3, 48)
    assert np.allclose(layers[:, -1], trace.states(), atol=1e-5, equal_nan=True)
    assert 0 < np.isnan(layers[:, -1, 0]).sum() < 40
    assert len(trace.answers) == 40 and trace.failures.empty
