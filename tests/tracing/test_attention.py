"""Attention at label steps: equal to eager attention maps, and read into Table 6."""

import copy
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from mlutils import metrics
from mlutils.readouts import attention as readout
from mlutils.reporting import attention as reporting
from mlutils.reporting import published
from mlutils.traces import Trace, TraceError
from mlutils.tracing import prompts, views, vocabulary
from mlutils.tracing.attention import SEGMENTS, AttentionView, Reading, ReadPass, recording
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import BadLogits, Written
from mlutils.tracing.models import Model, has_plain_attention
from mlutils.tracing.passes import Pass
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView
from mlutils.writer import Writer
from tests.readouts.test_steps import calls

ANSWERS = {  # what documents are made to say, in turn
    "json": ['\n{"label": ["joy", "anger"]}', '{"label": ["fear"]}', '{"label": ["anger", "fear", "joy", "fear"]}'],
    "comma": [" joy, anger\n", " fear\n", " anger, fear, joy, fear\n"],
    "the": [" the joy and the anger.", " the fear.", " the anger and the fear and the joy and the fear."],
}
ROWS = range(12)
SIZES = dict(hidden_size=48, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, vocab_size=700)
SIZES |= dict(num_hidden_layers=3, bos_token_id=None, eos_token_id=0, pad_token_id=0, max_position_embeddings=4096)


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    """Models say ANSWERS in place of their greedy answers; documents too long for them fail as ever."""

    def write(view, rows):
        texts = [view.prompting.list_prompt(row) for row in rows]
        encoded = dict(zip(rows, vocabulary.encode_prompts(view.model.tokenizer, texts), strict=True))
        outcomes = {}
        for row in rows:
            tokens = vocabulary.encode(view.model.tokenizer, ANSWERS[view.form][row % 3])
            written = Written(tokens, np.zeros((0, 0)), np.zeros(0), torch.zeros(0), True)
            outcomes[row] = ValueError("too long") if len(encoded[row]) > 3000 else written
        return encoded, outcomes

    monkeypatch.setattr(ListView, "write", write)


@pytest.fixture(scope="module")
def qwen(llama):
    return build(llama, transformers.Qwen2Config(**SIZES))


def build(llama, config, implementation="sdpa"):
    """Returns a random model of a configuration, with the tokenizer of the random Llama."""
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    for parameter in network.parameters():
        parameter.data.mul_(4 if parameter.ndim > 1 else 1)
    return Model("tiny", network.requires_grad_(False), llama.tokenizer, "seed-1", has_plain_attention(config))


def ask_for(corpus, form="json", shots=8):
    return Prompting(corpus, corpus, draw(corpus, shots=shots), prompts.template("foxes", form=form))


def eager_rows(model, prompting):
    """Returns what plain prompts attend to: (document, step) -> mass by segment, (4, layers), from attention maps."""
    network = copy.deepcopy(model.network)
    network.set_attn_implementation("eager")
    tokenizer, form, found = model.tokenizer, prompting.template.form, {}
    for row in ROWS:
        prompt = vocabulary.encode_prompts(tokenizer, [prompting.list_prompt(row)])[0]
        text, labels = ANSWERS[form][row % 3], [["joy", "anger"], ["fear"], ["anger", "fear", "joy", "fear"]][row % 3]
        answer = vocabulary.encode(tokenizer, text)
        with torch.inference_mode():
            maps = network(torch.tensor([prompt + answer]), output_attentions=True).attentions
        shares = torch.stack([layer[0].mean(0) for layer in maps]).double().numpy()  # (layers, queries, keys)
        begun, at = [], 0  # by hand: the last token boundary at or before each label
        for label in labels:
            at = text.index(label, at)
            begun.append(max(i for i in range(len(answer)) if len(tokenizer.decode(answer[:i])) <= at))
            at += len(label)
        for step in range(2, len(labels) + 1):
            query = len(prompt) + begun[step - 1] - 1
            first = np.array([len(prompt) + i for i in begun[: step - 1]])
            line = shares[:, query]
            parts = (line[:, : len(prompt)], line[:, len(prompt) : query + 1], line[:, first], line[:, first - 1])
            found[f"d{row}", step] = np.array([part.sum(axis=1) for part in parts])
    return found


def masses(row):
    return np.array([row[name] for name in SEGMENTS])


@pytest.mark.parametrize("form", ANSWERS)
@pytest.mark.parametrize("which", ["llama", "qwen"])
def test_masses_are_those_of_eager_attention_maps(which, form, corpus, request):
    model = request.getfixturevalue(which)
    view = AttentionView(model, ask_for(corpus, form))
    tables, states = view.ask(ROWS)
    expected = eager_rows(model, view.prompting)
    assert states is None and not tables["failures"]
    assert [(row["document"], row["step"]) for row in tables["attention"]] == list(expected)
    for row in tables["attention"]:
        assert np.abs(masses(row) - expected[row["document"], row["step"]]).max() < 1e-5
        assert len(row["input"]) == model.network.config.num_hidden_layers
    assert len(view.engine.prefix.tokens) > 100, "the demonstrations were not kept in the cache"
    assert view.engine.passes < 8, "documents did not share a pass"


def test_tokens_of_the_segments_are_counted(llama, corpus):
    prompting = ask_for(corpus, "comma")
    rows = AttentionView(llama, prompting).ask(ROWS)[0]["attention"]
    for row in rows:
        number = int(row["document"][1:])
        prompt = vocabulary.encode_prompts(llama.tokenizer, [prompting.list_prompt(number)])[0]
        before = ANSWERS["comma"][number % 3].split(",")[: row["step"] - 1]
        assert row["input_tokens"] == len(prompt) and row["first_tokens"] == row["step"] - 1
        answer = vocabulary.encode(llama.tokenizer, ANSWERS["comma"][number % 3])
        seen, one_more = (llama.tokenizer.decode(answer[: row["answer_tokens"] + more]) for more in (0, 1))
        assert seen.rstrip() == ",".join(before) + "," and one_more.rstrip() != seen.rstrip()


def test_an_answer_with_one_label_gives_no_row(llama, corpus):
    tables, _ = AttentionView(llama, ask_for(corpus)).ask([1, 4, 7])
    assert tables == {"attention": [], "failures": []}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_input_and_answer_are_all_that_is_seen(llama, corpus, dtype):
    network = copy.deepcopy(llama.network).to(getattr(torch, dtype))
    for row in AttentionView(replace(llama, network=network), ask_for(corpus)).ask(ROWS)[0]["attention"]:
        whole, answer, first, shifted = masses(row)
        assert np.abs(whole + answer - 1).max() < 1e-5
        assert (first < answer).all() and (shifted < 1).all() and (masses(row) > 0).all()


def test_documents_do_not_depend_on_their_neighbours(llama, corpus):
    view = AttentionView(llama, ask_for(corpus))
    together = view.ask(ROWS)[0]["attention"]
    fresh = AttentionView(llama, ask_for(corpus))
    alone = [row for number in reversed(ROWS) for row in fresh.ask([number])[0]["attention"]]
    alone = {(row["document"], row["step"]): masses(row) for row in alone}
    assert len(alone) == len(together)
    for row in together:
        assert np.abs(masses(row) - alone[row["document"], row["step"]]).max() < 1e-6


def test_one_long_document_keeps_its_rows_out_of_the_prefix(llama, corpus):
    texts = corpus.documents.copy()
    texts.loc[0, "text"] = "fox " * 700
    long = replace(corpus, documents=texts)
    prompting = Prompting(long, corpus, draw(corpus, 2, exclude=["d0"]), prompts.template("foxes"))
    view = AttentionView(llama, prompting)
    (row,) = view.ask([0])[0]["attention"]
    assert row["input_tokens"] > view.engine.row
    assert len(view.engine.prefix.tokens) == row["input_tokens"] - 1, "the prompt was not worth caching"
    beside = AttentionView(llama, prompting).ask([2, 0])[0]["attention"][-1]
    assert np.abs(masses(row) - masses(beside)).max() < 1e-6


@pytest.mark.parametrize("packed", [True, False])
def test_a_model_with_a_window_is_read_within_it(packed, llama, corpus):
    config = transformers.MistralConfig(**SIZES, sliding_window=60)
    model = replace(build(llama, config), packed=packed)
    view = AttentionView(model, ask_for(corpus))
    rows, expected = view.ask(ROWS)[0]["attention"], eager_rows(model, view.prompting)
    assert [(row["document"], row["step"]) for row in rows] == list(expected)
    for row in rows:
        assert np.abs(masses(row) - expected[row["document"], row["step"]]).max() < 1e-5
    assert packed or view.engine.passes == 8


def test_recording_leaves_the_model_as_it_was(llama, corpus, monkeypatch):
    ids = torch.tensor([vocabulary.encode(llama.tokenizer, "a fox ran over the wet field")])
    twin = copy.copy(llama.network)  # shares the config object
    config = llama.network.config
    with torch.inference_mode():
        before = llama.network(ids).logits
        AttentionView(llama, ask_for(corpus)).ask(ROWS)
        assert (llama.network(ids).logits == before).all() and (twin(ids).logits == before).all()
    assert config._attn_implementation == "sdpa" and twin.config is config
    view = AttentionView(llama, ask_for(corpus))
    monkeypatch.setattr(view.engine, "_decoder", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        view.ask(ROWS)
    assert config._attn_implementation == "sdpa"
    for name in ("sdpa_recorded", "packed"):
        assert name not in transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS


def test_states_are_the_same_while_recording(llama, corpus):
    view = AttentionView(llama, ask_for(corpus))
    kept, plain = [], view.engine._forward
    view.engine._forward = lambda step: kept.append((step, plain(step))) or kept[-1][1]
    view.ask(ROWS)
    step, states = kept[-1]
    assert type(step) is ReadPass and step.wanted
    again = Pass(step.trees, step.new, step.store, step.prefix, step.device)
    assert (plain(again) == states).all()


def test_a_query_without_a_scale_of_its_own_is_scaled_by_its_size(llama):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 16)
    inside = torch.zeros(4, 1, 5, dtype=torch.bool)
    inside[0, 0, :2], inside[1, 0, 2:4], inside[2, 0, 0], inside[3, 0, 3] = True, True, True, True
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal, module.training = 2, True, False
    found = {}
    for scaling in (None, 0.25, 0.1):
        with recording(llama, [3], inside) as layers:
            attend = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa_recorded"]
            attend(module, query, key, value, None, scaling=scaling)
        found[scaling] = layers[0][0]
        scores = torch.einsum("hd,hkd->hk", query[0, :, 3], key[0].repeat_interleave(2, 0))[:, :4]
        shares = (scores * (0.25 if scaling is None else scaling)).softmax(-1).mean(0)  # 16 ** -0.5 = 0.25
        expected = [shares[:2].sum(), shares[2:4].sum(), shares[0], shares[3]]
        assert found[scaling] == pytest.approx([float(x) for x in expected], abs=1e-6)
    assert np.abs(found[None] - found[0.1]).max() > 0.01


def test_models_that_cannot_be_read_are_named(llama, corpus):
    with pytest.raises(ValueError, match="attention of tiny .* does not go through"):
        small = dict(hidden_size=48, n_layer=2, n_head=4, vocab_size=700)
        network = transformers.BloomForCausalLM(transformers.BloomConfig(**small))
        AttentionView(Model("tiny", network, llama.tokenizer, "", False), ask_for(corpus))
    gemma = build(llama, transformers.Gemma2Config(**SIZES, head_dim=12, attn_logit_softcapping=30.0), "eager")
    with pytest.raises(ValueError, match="attention of tiny .* softcap"):
        AttentionView(gemma, ask_for(corpus)).ask(ROWS)


def test_attention_that_is_not_finite_fails_its_document_only(llama, corpus):
    prompting = ask_for(corpus)
    network = copy.deepcopy(llama.network)
    bad = vocabulary.encode(llama.tokenizer, "anger")[0]
    readings = [Reading([5, 6, 7], [8, 9, 10, 11], [1, 3]), Reading([5, 6, bad], [8, 9, 10, 11], [1, 3])]
    network.get_input_embeddings().weight.data[bad] = torch.nan
    good, failed = AttentionView(replace(llama, network=network), prompting).engine.attend(readings)
    assert good.shape == (1, 2, 4) and isinstance(failed, BadLogits)
    (clean,) = AttentionView(llama, prompting).engine.attend(readings[:1])
    assert np.abs(good - clean).max() < 1e-6


@given(st.integers(1, 6), st.lists(st.integers(0, 4), min_size=2, max_size=5))
def test_segments_divide_what_a_query_sees(prompt, gaps):
    firsts = np.cumsum([gaps[0], *(1 + gap for gap in gaps[1:])]).tolist()
    reading = Reading([1] * prompt, [2] * (firsts[-1] + 1), firsts)
    for step in reading.steps:
        parts = reading.segments(step)
        assert parts["input"] + parts["answer"] == list(range(reading.query(step) + 1))
        assert set(parts["first"]) <= set(parts["answer"]) and len(parts["first"]) == step - 1
        assert [at + 1 for at in parts["shifted"]] == parts["first"]
    assert len(reading.tokens) == reading.query(reading.steps[-1]) + 1


@pytest.fixture()
def trace(llama, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(views.VIEWS, "attention", AttentionView)
    texts = corpus.documents.copy()
    texts.loc[3, "text"] = "fox " * 4000
    long = replace(corpus, documents=texts)
    prompting = Prompting(long, corpus, draw(corpus, 8, exclude=["d3"]), prompts.template("foxes"))
    return views.write_trace(tmp_path / "trace", llama, prompting, ["attention"])


def test_a_trace_holds_the_view(trace):
    table = trace.table("attention")
    assert list(trace.failures["document"]) == ["d3"] and "d3" not in set(table["document"])
    assert len(table) == 13 + 13 * 3  # documents 0, 6, 9, ... say two labels, 2, 5, ... four
    assert trace.work["attention"]["tokens"] > 0
    summary = readout.summarise(trace)
    assert set(summary["documents"]) == {26} and set(summary["steps"]) == {52}


def write_by_hand(folder, rows):
    writer = Writer(folder, {"labels": ["joy"], "single_label": False, "views": ["attention"]})
    writer.add("documents", 0, {"documents": [{"id": i, "gold": [], "votes": []} for i in "abc"]})
    writer.add("attention", 0, {"attention": rows})
    writer.finish()
    return Trace(folder)


def row_of(document, step, whole, first, shifted, tokens=(100, 4, 1)):
    counts = dict(zip(("input_tokens", "answer_tokens", "first_tokens"), tokens, strict=True))
    mass = {"input": whole, "answer": [1 - x for x in whole], "first": first, "shifted": shifted}
    return {"document": document, "step": step, **mass, **counts}


def test_table_6_by_hand(tmp_path):
    rows = [
        row_of("a", 2, [0.8, 0.6], [0.1, 0.2], [0.0, 0.1]),
        row_of("a", 3, [0.4, 0.2], [0.2, 0.4], [0.1, 0.1], (100, 8, 2)),
        row_of("b", 2, [0.5, 0.3], [0.3, 0.1], [0.2, 0.2], (200, 4, 1)),
    ]
    trace = write_by_hand(tmp_path, rows)
    got = readout.summarise(trace).set_index(["segment", "quantity"])
    # a: steps first, then documents; per token: mean over layers, divided by the tokens.
    expected = {
        ("input", "per_token"): (100 * (0.7 / 100 + 0.3 / 100) / 2 + 100 * 0.4 / 200) / 2,
        ("answer", "per_token"): (100 * (0.3 / 4 + 0.7 / 8) / 2 + 100 * 0.6 / 4) / 2,
        ("first", "per_token"): (100 * (0.15 + 0.3 / 2) / 2 + 100 * 0.2) / 2,
        ("shifted", "per_token"): (100 * (0.05 + 0.1 / 2) / 2 + 100 * 0.2) / 2,
        ("input", "share"): 100 * ((0.7 + 0.3) / 2 + 0.4) / 2,
        ("answer", "share"): 100 * ((0.3 + 0.7) / 2 + 0.6) / 2,
        ("first", "ratio"): (15 + 20) / (0.5 + 0.2),
        ("answer", "ratio"): (8.125 + 15) / 0.7,
        ("shifted", "ratio"): 25 / 0.7,
    }
    assert set(got.index) == set(expected)
    for key, value in expected.items():
        assert got.loc[key, "mean"] == pytest.approx(value), key
    assert set(got["steps"]) == {3} and set(got["documents"]) == {2}
    # Two documents: a resample is (a, a), (b, b) or both.
    assert got.loc[("first", "per_token"), ["low", "high"]].tolist() == pytest.approx([15, 20])
    assert got.loc[("first", "ratio"), ["low", "high"]].tolist() == pytest.approx([30, 100])

    layers = readout.by_layer(trace).set_index(["layer", "segment"])
    assert len(layers) == 8
    assert layers.loc[(1, "first"), "mean"] == pytest.approx((100 * (0.1 + 0.1) / 2 + 30) / 2)
    assert layers.loc[(2, "input"), "mean"] == pytest.approx((100 * (0.006 + 0.002) / 2 + 0.15) / 2)
    means = layers["mean"].groupby("segment").mean()
    for segment in SEGMENTS:
        assert means[segment] == pytest.approx(got.loc[(segment, "per_token"), "mean"])


def test_a_label_said_again_is_no_later_label(tmp_path):
    """a says joy, joy, fear; b joy, joy; c joy, fear: later labels are the third step of a and the second of c."""
    said = {"a": ["joy", "joy", "fear"], "b": ["joy", "joy"], "c": ["joy", "fear"]}
    writer = Writer(tmp_path, {"labels": ["fear", "joy"], "single_label": False, "views": ["list", "attention"]})
    writer.add("documents", 0, {"documents": [{"id": i, "gold": [], "votes": []} for i in said]})
    writer.add("list", 0, {
        "answers": [{"document": i, "variant": "list", "said": list(dict.fromkeys(each))} for i, each in said.items()],
        "steps": [{"document": i, "variant": "list", "step": r, "label": label, "logits": [0.0] * 3}
                  for i, labels in said.items() for r, label in enumerate(labels, 1)],
    })  # fmt: skip
    first = {("a", 2): 0.9, ("a", 3): 0.2, ("b", 2): 0.9, ("c", 2): 0.4}
    writer.add("attention", 0, {"attention": [row_of(*at, [0.5], [x], [0.1]) for at, x in first.items()]})
    writer.finish()
    trace = Trace(tmp_path)
    assert readout.read(trace)[["document", "step"]].to_numpy().tolist() == [["a", 2], ["c", 2]]
    row = readout.summarise(trace).set_index(["segment", "quantity"]).loc[("first", "per_token")]
    assert row["mean"] == pytest.approx(100 * (0.2 + 0.4) / 2) and (row["steps"], row["documents"]) == (2, 2)
    assert row["different"] == 1  # both say joy, fear
    row = readout.summarise(trace, repeats="kept").set_index(["segment", "quantity"]).loc[("first", "per_token")]
    assert row["mean"] == pytest.approx(100 * ((0.9 + 0.2) / 2 + 0.9 + 0.4) / 3) and row["steps"] == 4
    assert row["different"] == pytest.approx(3 / 2 ** (2 / 3))  # joy, fear twice, joy once
    assert set(readout.by_layer(trace)["steps"]) == {2}


def test_intervals_are_those_of_the_bootstrap(tmp_path):
    rng = np.random.default_rng(0)
    rows = [row_of(f"d{i}", 2, *rng.uniform(0.1, 0.9, (3, 4)).tolist()) for i in range(30)]
    trace = write_by_hand(tmp_path, rows)
    got = readout.summarise(trace).set_index(["segment", "quantity"]).loc[("first", "per_token")]
    expected = metrics.bootstrap([100 * np.mean(row["first"]) for row in rows])
    assert got[["mean", "low", "high"]].tolist() == pytest.approx(expected)


def test_43000_documents_take_bounded_memory_and_no_loop_over_them():
    def made(documents, layers=12):
        rng = np.random.default_rng(0)
        steps = np.repeat(np.arange(documents), rng.choice([0, 1, 2, 3], documents, p=[0.52, 0.33, 0.1, 0.05]))
        masses = {name: list(rng.random((len(steps), layers), np.float32) / 4) for name in readout.SEGMENTS}
        table = pd.DataFrame({"document": [f"d{row}" for row in steps], "step": 2, **masses})
        table = table.assign(input_tokens=90, answer_tokens=4, first_tokens=1)
        return SimpleNamespace(settings={"views": ["attention"]}, table=lambda name: table)

    def read(trace):
        return readout.summarise(trace, 500), readout.by_layer(trace, 500)

    small, large = made(430), made(43_000)
    read(small)
    # A bootstrap draws in chunks of bounded memory: some calls more, against 43,000 documents.
    assert calls(lambda: read(large)) < calls(lambda: read(small)) + 1_500
    tracemalloc.start()
    summary, layers = read(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 2**20 and summary["documents"].min() > 20_000 and len(layers) == 4 * 12


def test_no_second_label_no_view_and_one_document(tmp_path):
    empty = write_by_hand(tmp_path / "empty", [])
    summary = readout.summarise(empty)
    assert len(summary) == 9 and summary["mean"].isna().all() and set(summary["documents"]) == {0}
    assert readout.by_layer(empty).empty and readout.by_layer(empty)["mean"].dtype == float  # concatenates with others
    single = readout.summarise(write_by_hand(tmp_path / "one", [row_of("a", 2, [0.5], [0.1], [0.1])]))
    assert single["mean"].notna().all() and single["low"].isna().all()
    writer = Writer(tmp_path / "other", {"labels": ["joy"], "single_label": False, "views": ["list"]})
    writer.add("documents", 0, {"documents": []})
    writer.finish()
    for read in (readout.summarise, readout.by_layer):
        with pytest.raises(TraceError, match="no view attention"):
            read(Trace(tmp_path / "other"))


NAMES = {"model": "tiny", "corpus": "mfrc", "family": "P", "form": "json"}


def test_table_6_stands_beside_the_published_numbers(tmp_path):
    rows = [row_of("a", 2, [0.5], [0.1], [0.1]), row_of("b", 2, [0.5], [0.1], [0.1])]
    summary = readout.summarise(write_by_hand(tmp_path / "ours", rows)).assign(**NAMES)
    nothing = readout.summarise(write_by_hand(tmp_path / "empty", [])).assign(**NAMES | {"model": "silent"})
    table = reporting.beside_published(pd.concat([summary, nothing]), published.attention())
    ours, silent, base, instruct = table.to_dict("records")
    assert ours["first tokens"] == "10 [10, 10]" and ours["first tokens / input"] == "20 [20, 20]"
    assert ours["documents"] == "2" and ours["steps"] == "2" and ours["prompts"] == "P, JSON"
    assert silent["input"] == "–" and silent["documents"] == "0"
    assert base["input"] == "0.132" and base["first tokens / input"] == "24.9" and base["answer / input"] == "15.2"
    assert instruct["corpus"] == "MFRC" and instruct["one token earlier"] == "" and instruct["steps"] == ""


def test_the_figure_has_a_line_a_segment_and_a_panel_a_trace(tmp_path):
    rows = [row_of("a", 2, [0.5, 0.4], [0.1, 0.2], [0.1, 0.1]), row_of("b", 2, [0.6, 0.4], [0.1, 0.2], [0.1, 0.1])]
    layers = readout.by_layer(write_by_hand(tmp_path, rows))
    other = layers.assign(**NAMES | {"model": "other", "corpus": "semeval"})
    fig = reporting.by_layer(pd.concat([layers.assign(**NAMES), other]))
    first, missing, _, last = fig.axes
    assert fig.alt.endswith("gets in: other on semeval: 2 of 2 layers; tiny on mfrc: 2 of 2 layers.")
    assert [len(axis.lines) for axis in fig.axes] == [3, 0, 0, 3]
    assert first.lines[0].get_ydata() == pytest.approx([10, 20]) and first.get_yscale() == "log"
    assert first.lines[2].get_ydata() == pytest.approx([0.55, 0.4])
    assert "2 steps of 2 documents" in first.get_title() and missing.texts[0].get_text() == "no second label"
    assert "SemEval" in last.get_title()
    with pytest.raises(ValueError, match="two traces"):
        reporting.by_layer(pd.concat([layers, layers]).assign(**NAMES))
    with pytest.raises(ValueError, match="no rows"):
        reporting.by_layer(layers.iloc[:0].assign(**NAMES))
