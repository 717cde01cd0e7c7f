"""Medusa heads in the layouts of the hub, on the tiny random Llama, against plain passes of the whole text."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from mlutils import readouts, reporting
from mlutils.readouts import step_distributions
from mlutils.traces import Trace
from mlutils.tracing import medusa, models, prompts, views, vocabulary
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.prompting import Prompting
from mlutils.writer import Writer

HEADS, LAYERS = 3, 2
HIDDEN = 48


def prompting(corpus, form="json"):
    return Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes", form=form))


def random_weights(words):
    """Returns heads as Medusa-1 names them, written from its description and not from our module."""
    random = torch.Generator().manual_seed(3)
    weights = {}
    for head in range(HEADS):
        for layer in range(LAYERS):
            weights[f"{head}.{layer}.linear.weight"] = torch.randn(HIDDEN, HIDDEN, generator=random) / 4
            weights[f"{head}.{layer}.linear.bias"] = torch.randn(HIDDEN, generator=random)
        weights[f"{head}.{LAYERS}.weight"] = torch.randn(words, HIDDEN, generator=random)
    return weights


def compute_head(weights, number, states):
    """Logits of head `number` (1, 2, ...), straight from the weights."""
    for layer in range(LAYERS):
        block = f"{number - 1}.{layer}.linear"
        inner = states @ weights[f"{block}.weight"].T + weights[f"{block}.bias"]
        states = states + inner * torch.sigmoid(inner)
    return states @ weights[f"{number - 1}.{LAYERS}.weight"].T


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(views.VIEWS, medusa.MedusaView.name, medusa.MedusaView)
        yield


@pytest.fixture(scope="module")
def weights(llama):
    return random_weights(llama.network.config.vocab_size)


FOLLOWS = {"\n": [" ", "joy"], " ": ["joy"], "joy": [",", "\n"], ",": [" anger", " fear"], " anger": [",", "\n"],
           " fear": ["\n", ","]}  # fmt: skip


@pytest.fixture(scope="module")
def base(llama, tmp_path_factory):
    """A random Llama that writes comma lists: two tokens may follow each, and the text before decides which.

    States are near the embedding of the last token, so the final layer can be written down: both successors get the
    same logit from it, and a random one from what the rest of the text adds.
    """
    folder = tmp_path_factory.mktemp("base")
    random = torch.Generator().manual_seed(4)
    weights = {name: w.clone() for name, w in llama.network.state_dict().items()}
    for name in weights:
        weights[name] *= 0.4 if "o_proj" in name or "down_proj" in name else 1
    tokens = [vocabulary.encode(llama.tokenizer, text)[0] for text in FOLLOWS]
    states = weights["model.embed_tokens.weight"][tokens]
    dual = torch.linalg.pinv(states).T  # states @ dual.T is the identity
    final = torch.randn(weights["lm_head.weight"].shape, generator=random) / 5
    final -= final @ states.T @ dual
    for place, after in enumerate(FOLLOWS.values()):
        for text in after:
            final[vocabulary.encode(llama.tokenizer, text)[0]] += dual[place]
    weights["lm_head.weight"] = final
    config = llama.network.config.to_dict() | {"tie_word_embeddings": False}
    network = LlamaForCausalLM(LlamaConfig(**config))
    network.load_state_dict(weights)
    network.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(base, weights, tmp_path_factory):
    """Heads alone, as in FasterDecoding/medusa-vicuna-7b-v1.3: more heads in the file than the config counts."""
    folder = tmp_path_factory.mktemp("heads")
    config = {"base_model_name_or_path": base, "medusa_num_heads": HEADS, "medusa_num_layers": LAYERS}
    (folder / "config.json").write_text(json.dumps(config))
    extra = {name.replace("0.", f"{HEADS}.", 1): w.clone() for name, w in weights.items() if name.startswith("0.")}
    save_file(weights | extra, folder / "medusa_lm_head.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return models.load(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def trace(model, corpus, tmp_path_factory):
    return views.write_trace(tmp_path_factory.mktemp("trace"), model, prompting(corpus, "comma"), ["list", "medusa"])


@pytest.fixture()
def scripted(model, corpus, monkeypatch):
    """What the view says of an answer that is forced on the model, and the states and tokens of a plain pass."""

    def script(text, form, view=None):
        view = view or medusa.MedusaView(model, prompting(corpus, form))
        prompt = vocabulary.encode_prompts(model.tokenizer, [view.prompting.list_prompt(0)])[0]
        ids = vocabulary.encode(model.tokenizer, text)
        with torch.inference_mode():
            out = model.network(torch.tensor([prompt + ids]), output_hidden_states=True)
        states, logits = out.hidden_states[-1][0], out.logits[0].double()
        said = slice(len(prompt) - 1, -1)
        written = medusa.Written(
            ids,
            logits[said][:, view.label_tokens.select].numpy(),
            logits[said].logsumexp(-1).numpy(),
            states[said],
            True,
        )
        monkeypatch.setattr(view.engine, "write", lambda *arguments: [written])
        return view, view.ask([0])[0], states, len(prompt), ids

    return script


def first_tokens(model, ids, text, labels):
    """By hand: the last token that is written while the label has not begun, in the order of the labels said."""
    texts = [model.tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
    return [max(i for i, before in enumerate(texts) if len(before) <= text.index(label)) for label in labels]


@pytest.mark.parametrize("form, text", [
    ("json", '\n{"label": ["joy", "anger"]}'), ("comma", " joy, anger\n"), ("the", " the joy and the anger."),
])  # fmt: skip
def test_a_head_is_read_as_many_states_before_as_its_number(scripted, model, weights, form, text):
    view, tables, states, prompt, ids = scripted(text, form)
    places = first_tokens(model, ids, text, ["joy", "anger"])
    rows = {(row["variant"], row["step"]): row for row in tables["steps"]}
    expected = {("medusa-head=0", 1), ("medusa-head=0", 2)}
    for number in range(1, HEADS + 1):
        for step, at in enumerate(places, start=1):
            if at - number < 0:  # its state lies in the prompt
                continue
            expected.add((f"medusa-head={number}", step))
            row = rows[f"medusa-head={number}", step]
            # State prompt - 1 + i predicts token i of the answer, so the head that looks further ahead stands before.
            logits = compute_head(weights, number, states[prompt - 1 + at - number]).double()
            held = [logits[tokens].max().item() for tokens in view.label_tokens.first]
            assert row["logits"] == pytest.approx(held, abs=1e-4)
            every = sorted({token for tokens in view.label_tokens.first for token in tokens})
            assert row["mass"] == pytest.approx(logits.softmax(-1)[every].sum().item(), abs=1e-5)
            assert row["label"] == ["joy", "anger"][step - 1] and np.isnan([row["goes_on"], row["stops"]]).all()
    assert set(rows) == expected
    assert (form == "json") == (("medusa-head=3", 1) in expected)  # a comma list begins at once


def test_later_heads_cannot_tell_apart_what_begins_alike(model, corpus, scripted):
    """Head 0 is read behind the shared token; the others give it to both labels."""
    alike = replace(corpus, labels=("hate", "hate speech", "joy"))
    view = medusa.MedusaView(model, prompting(alike, "comma"))
    _, tables, *_ = scripted(" joy, hate speech\n", "comma", view)
    assert not tables["failures"]
    shared = {row["variant"]: row["logits"][0] == row["logits"][1] for row in tables["steps"] if row["step"] == 2}
    assert shared == {"medusa-head=0": False} | {f"medusa-head={number}": True for number in range(1, HEADS + 1)}


def test_head_zero_is_the_list(trace):
    ours = trace.step_logits("medusa-head=0")
    assert np.array_equal(ours, trace.step_logits("list"), equal_nan=True) and np.isfinite(ours).any()
    assert np.array_equal(trace.said("medusa-head=0"), trace.said("list"))
    assert np.array_equal(trace.goes_on("medusa-head=0"), trace.goes_on("list"), equal_nan=True)


def test_a_head_of_zeros_is_its_final_layer(corpus, weights, folder, tmp_path, scripted):
    zeros = {name: w if name.endswith(f"{LAYERS}.weight") else torch.zeros_like(w) for name, w in weights.items()}
    shutil.copytree(folder, tmp_path / "zeros")
    save_file(zeros, tmp_path / "zeros" / "medusa_lm_head.safetensors")
    model = models.load(str(tmp_path / "zeros"), device="cpu", dtype="float32")
    text = '\n{"label": ["joy"]}'
    view = medusa.MedusaView(model, prompting(corpus))
    view, tables, states, prompt, ids = scripted(text, "json", view)
    (at,) = first_tokens(model, ids, text, ["joy"])
    for number in range(1, HEADS + 1):
        bare = weights[f"{number - 1}.{LAYERS}.weight"] @ states[prompt - 1 + at - number]
        (row,) = [row for row in tables["steps"] if row["variant"] == f"medusa-head={number}"]
        assert row["logits"] == pytest.approx(
            [bare[tokens].max().item() for tokens in view.label_tokens.first], abs=1e-4
        )


def test_padded_batches_give_the_same(model, corpus, trace):
    view = medusa.MedusaView(model, prompting(corpus, "comma"))
    view.engine = PaddedEngine(model)
    steps = view.ask(range(4))[0]["steps"]
    rows = trace.steps[trace.steps["variant"].str.startswith("medusa")].set_index(["document", "variant", "step"])
    assert len(steps) == (rows.index.get_level_values(0).isin(["d0", "d1", "d2", "d3"])).sum() > 0
    for row in steps:
        packed = rows.loc[(row["document"], row["variant"], row["step"])]
        assert row["logits"] == pytest.approx(list(packed["logits"]), abs=1e-4)


def test_a_model_with_its_heads_within_is_the_same_model(base, weights, model, tmp_path):
    """The layout of medusa-1.0-zephyr-7b-beta: one model, the heads under medusa_head, config of the base's kind."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"medusa_num_heads": HEADS, "medusa_num_layers": LAYERS}
    (tmp_path / "config.json").write_text(json.dumps(config))
    within = {f"medusa_head.{name}": w for name, w in weights.items()}
    save_file(
        load_file(tmp_path / "model.safetensors") | within, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    whole = models.load(str(tmp_path), device="cpu", dtype="float32")
    ours, theirs = medusa.load_heads(whole), medusa.load_heads(model)
    states = torch.randn(5, HIDDEN)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a(states), b(states))
    with torch.inference_mode():
        ids = torch.arange(20)[None]
        assert torch.equal(whole.network(ids).logits, model.network(ids).logits)
    assert whole.packed and len(ours) == HEADS


def test_a_killed_trace_goes_on(model, corpus, trace, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "PART", 10)
    asked = medusa.MedusaView.ask

    def stop(self, rows):
        if rows[0] == 20:
            raise KeyboardInterrupt
        return asked(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(medusa.MedusaView, "ask", stop)
        with pytest.raises(KeyboardInterrupt):
            views.write_trace(tmp_path, model, prompting(corpus, "comma"), ["list", "medusa"])
    calls = []
    monkeypatch.setattr(medusa.MedusaView, "ask", lambda self, rows: calls.append(rows[0]) or asked(self, rows))
    again = views.write_trace(tmp_path, model, prompting(corpus, "comma"), ["list", "medusa"])
    assert calls == [20, 30]
    assert list(again.steps["variant"].unique()) == list(trace.steps["variant"].unique())
    for number in range(HEADS + 1):
        held = [each.step_logits(f"medusa-head={number}") for each in (again, trace)]
        assert np.allclose(*held, atol=1e-4, equal_nan=True)


def test_a_document_whose_head_is_not_finite_is_recorded_alone(model, corpus):
    view = medusa.MedusaView(model, prompting(corpus, "comma"))
    good = view.ask(range(4))[0]
    (bad,) = {row["document"] for row in good["steps"] if row["variant"] == "medusa-head=2"} & {"d1"}
    forward, calls = view.heads[1].forward, []

    def spoil(states):
        calls.append(1)
        return forward(states) * (float("nan") if len(calls) == 2 else 1)

    view.heads[1].forward = spoil
    tables = view.ask(range(4))[0]
    view.heads[1].forward = forward
    assert [row["document"] for row in tables["failures"]] == [bad]
    assert "head 2" in tables["failures"][0]["error"] and tables["failures"][0]["view"] == "medusa"
    assert [row["document"] for row in tables["answers"]] == ["d0", "d2", "d3"]
    assert bad not in {row["document"] for row in tables["steps"]}


# -- what is missing or does not fit -----------------------------------------------------------------------------------
def copy_with(folder, tmp_path, weights=None, **config):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    held = json.loads((tmp_path / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(held))
    if weights is not None:
        save_file(weights, tmp_path / "medusa_lm_head.safetensors")
    return models.load(str(tmp_path), device="cpu", dtype="float32")


def test_a_folder_without_its_heads_says_so(folder, tmp_path):
    model = copy_with(folder, tmp_path)
    (tmp_path / "medusa_lm_head.safetensors").unlink()
    with pytest.raises(OSError, match=r"neither medusa_lm_head.safetensors.*hf download.*--revision refs/pr/1"):
        medusa.load_heads(model)


def test_heads_of_few_bits_are_multiplied_in_float32(folder):
    heads = medusa.load_heads(models.load(str(folder), device="cpu", dtype="bfloat16"))
    states = torch.randn(4, HIDDEN).bfloat16()
    assert heads[0](states).dtype == torch.float32
    wanted = heads[0][:-1](states).float() @ heads[0][-1].weight.float().T
    assert torch.allclose(heads[0](states), wanted, atol=1e-5)


def test_heads_in_a_folder_are_known_by_their_contents_and_carry_what_the_base_learnt(folder, weights, tmp_path, base):
    before = copy_with(folder, tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"trained_on": {"foxes": ["d1"]}}))
    assert copy_with(folder, tmp_path).trained_on == {"foxes": {"d1"}}
    changed = {name: w * 2 for name, w in weights.items()}
    assert copy_with(folder, tmp_path, weights=changed).revision != before.revision


def test_pickled_heads_are_refused_with_a_conversion_that_works(folder, weights, tmp_path, monkeypatch):
    model = copy_with(folder, tmp_path)
    (tmp_path / "medusa_lm_head.safetensors").unlink()
    torch.save(weights, tmp_path / "medusa_lm_head.pt")
    with pytest.raises(OSError, match="medusa_lm_head.pt can run code .* is refused") as caught:
        medusa.load_heads(model)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition('-c "')[2].rpartition('"')[0])  # the very line that it tells to run
    states = torch.randn(2, HIDDEN)
    head = medusa.load_heads(model)[2]
    assert torch.allclose(head(states), compute_head(weights, 3, states), atol=1e-4)


def test_heads_that_do_not_fit_are_refused(folder, weights, tmp_path, llama):
    with pytest.raises(ValueError, match="no Medusa heads"):
        medusa.load_heads(llama)
    with pytest.raises(ValueError, match=r"do not fit 5 heads of 2 layers.*Missing.*4\.0\.linear\.weight"):
        medusa.load_heads(copy_with(folder, tmp_path / "a", medusa_num_heads=5))
    shared = {name: w for name, w in weights.items() if not name.endswith(f"{LAYERS}.weight")}
    with pytest.raises(ValueError, match=r"Missing.*0\.2\.weight"):  # Medusa of the legacy kind: the base's layer
        medusa.load_heads(copy_with(folder, tmp_path / "b", weights=shared))
    short = {name: w[:90].clone() if name.endswith(f"{LAYERS}.weight") else w for name, w in weights.items()}
    with pytest.raises(ValueError, match=r"size mismatch.*\[90, 48\]"):
        medusa.load_heads(copy_with(folder, tmp_path / "c", weights=short))


def test_a_hub_id_out_of_reach_says_what_to_do(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    name = "FasterDecoding/medusa-1.0-zephyr-7b-beta"
    with pytest.raises(
        OSError, match=f"model '{name}' is not in the hub's cache.*hf download {name} --local"
    ) as caught:
        models.load(name)
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None
    with pytest.raises(OSError, match="needs 'nobody/base', which is not in .*hf download nobody/base"):
        copy_with(folder, tmp_path / "d", base_model_name_or_path="nobody/base")
    absent = models.load(models.RANDOM, device="cpu", dtype="float32")
    absent.name = name
    with pytest.raises(OSError, match="is not in the hub's cache"):
        medusa.load_heads(absent)


def test_a_model_without_a_tokenizer_that_can_be_read_says_what_to_do(base, tmp_path):
    """As on the hub: medusa-1.0-zephyr-7b-beta has a tokenizer.model of sentencepiece alone."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(OSError, match="cannot be read here .* can borrow its base model's"):
        models.load(str(tmp_path), device="cpu", dtype="float32")


@pytest.mark.parametrize("kind, said", [
    (GatedRepoError, "is gated: accept its terms at https://huggingface.co/meta-llama/x, then `hf auth login`"),
    (RepositoryNotFoundError, "is not on the hub, or private: check the spelling"),
    (LocalEntryNotFoundError, "the hub cannot be reached"),
    (ValueError, "cannot be had (the first line); where a pull request on its page adds safetensors"),
])  # fmt: skip
def test_each_reason_has_its_advice(kind, said):
    error = OSError("the first line\nand a long second one")
    error.__cause__ = kind.__new__(kind)
    message = str(models.explain("meta-llama/x", "meta-llama/x", error))
    assert said in message and "second" not in message and "hf download meta-llama/x --local-dir FOLDER" in message
    if issubclass(kind, OSError):  # as snapshot_download raises it, with no error around it
        bare = kind.__new__(kind)
        bare.__cause__ = OSError("404 Client Error")
        assert said in str(models.explain("meta-llama/x", "meta-llama/x", bare))


# -- Fig. 16 -----------------------------------------------------------------------------------------------------------
def made_trace(tmp_path, rows):
    """A trace of two labels whose steps are (document, head, step, label, logits)."""
    settings = dict(labels=["a", "b"], single_label=False, views=["list", "medusa"])
    writer = Writer(tmp_path, settings)
    documents = sorted({row[0] for row in rows})
    writer.add("documents", 0, {"documents": [{"id": d, "text": d, "gold": [True, False], "votes": [1, 0],
                                               "annotators": 3} for d in documents]})  # fmt: skip
    writer.add("medusa", 0, {"steps": [
        {"document": d, "variant": f"medusa-head={head}", "step": step, "label": label, "repeated": False,
         "logits": np.log(shares).tolist(), "mass": 1.0, "goes_on": np.nan, "stops": np.nan}
        for d, head, step, label, shares in rows]})  # fmt: skip
    writer.finish()
    return Trace(tmp_path)


def test_fig_16_by_hand(tmp_path):
    trace = made_trace(tmp_path, [
        ("x", 0, 1, "a", [0.6, 0.3, 0.1]), ("x", 0, 2, "b", [0.25, 0.5, 0.25]),
        ("y", 0, 1, "b", [0.5, 0.25, 0.25]), ("y", 0, 2, "none", [0.25, 0.25, 0.5]),
        ("z", 0, 1, "none", [0.25, 0.25, 0.5]),
        ("x", 1, 2, "b", [0.8, 0.1, 0.1]),  # no reading of the first step: said too early
        ("y", 1, 1, "b", [0.125, 0.75, 0.125]), ("y", 1, 2, "none", [0.2, 0.4, 0.4]),
    ])  # fmt: skip
    rows = readouts.medusa.read(trace).set_index(["document", "head", "step"])
    assert list(rows["last"]) == [False, True, False, True, True, True, False, True]
    assert rows.loc[("y", 0, 1), "entropy"] == pytest.approx(1.5)
    assert rows.loc[("x", 1, 2), ["first", "second"]].tolist() == pytest.approx([0.8, 0.1])
    assert list(rows["said_is_top1"]) == [True, True, False, True, True, False, True, False]
    table = readouts.medusa.tabulate(trace).set_index(["head", "step", "last", "measure"])
    row = table.loc[(0, 1, False, "said_is_top1")]
    assert row["mean"] == 0.5 and row["n"] == 2 and row["missing"] == 0 and row["low"] <= 0.5 <= row["high"]
    row = table.loc[(1, 1, False, "first")]  # y alone; the base holds 0.5 there
    assert row["mean"] == pytest.approx(0.75) and row["base"] == pytest.approx(0.5)
    assert row["n"] == 1 and row["missing"] == 1 and np.isnan(row["low"])
    row = table.loc[(1, 1, True, "first")]  # z: the head reads none
    assert row["n"] == 0 and row["missing"] == 1 and np.isnan(row["mean"])
    row = table.loc[(1, 2, True, "second")]
    assert row["mean"] == pytest.approx((0.1 + 0.4) / 2) and row["base"] == pytest.approx(0.25) and row["n"] == 2
    # What a padded grid does with the gap: it is NaN, and whoever needs whole lists refuses it.
    grid = trace.step_logits("medusa-head=1")
    assert np.isnan(grid[0, 0]).all() and grid[0, 1] == pytest.approx(np.log([0.8, 0.1, 0.1]))
    with pytest.raises(ValueError, match="comes after a missing one"):
        step_distributions(grid)


def test_fig_16_takes_out_labels_said_again(tmp_path):
    """By what head 0 reads: a, a, b is a, b for head 1 as well, which reads no first step; b, b ends at its first."""
    half = [0.5, 0.25, 0.25]
    said = {"x": "aab", "y": "bb"}
    trace = made_trace(tmp_path, [
        *((document, 0, r, label, half) for document, labels in said.items() for r, label in enumerate(labels, 1)),
        ("x", 1, 2, "a", half), ("x", 1, 3, "b", [0.8, 0.1, 0.1]), ("y", 1, 2, "b", half),
    ])  # fmt: skip
    rows = readouts.medusa.read(trace)
    assert rows[["document", "head", "step", "last"]].to_numpy().tolist() == [
        ["x", 0, 1, False], ["x", 0, 2, True], ["y", 0, 1, True], ["x", 1, 2, True],
    ]  # fmt: skip
    assert rows["answer"].tolist() == [("a", "b"), ("a", "b"), ("b",), ("a", "b")]
    assert rows["first"].iloc[3] == pytest.approx(0.8)
    assert len(readouts.medusa.read(trace, "kept")) == 8
    table = readouts.medusa.tabulate(trace).set_index(["head", "step", "last", "measure"])
    assert table.loc[(0, 1, True, "first"), ["n", "different"]].tolist() == [1, 1]
    assert table.loc[(1, 1, True, "first"), ["n", "different", "missing"]].tolist() == [0, 0, 1]


def test_fig_16_of_a_trace(trace):
    rows = readouts.medusa.read(trace, "kept")
    assert set(rows["head"]) == set(range(HEADS + 1)) and len(rows) == trace.steps["variant"].ne("list").sum()
    table = readouts.medusa.tabulate(trace, "kept")
    steps = rows[rows["head"] == 0].groupby(["step", "last"]).size()
    for (step, last), here in table[table["measure"] == "first"].groupby(["step", "last"]):
        assert (here["n"] + here["missing"] == steps[step, last]).all()


def test_traces_with_heads_are_gathered_and_drawn(trace, llama, corpus, tmp_path):
    plain = views.write_trace(tmp_path, llama, prompting(corpus), ["list"])
    table = readouts.medusa.gather([plain, trace])
    assert set(table["model"]) == {trace.settings["model"]} and set(table["corpus"]) == {"foxes"}
    assert len(table) == len(readouts.medusa.read(trace))
    numbers = readouts.medusa.gather([plain, trace], readouts.medusa.tabulate)
    assert len(numbers) == len(readouts.medusa.tabulate(trace))
    fig = reporting.medusa.largest(table)
    assert [axis.get_title(loc="left") for axis in fig.axes] == [f"head {k}\nfoxes" for k in range(HEADS + 1)]
    assert readouts.medusa.gather([plain]).empty


def test_fig_16_needs_the_view(llama, corpus, tmp_path):
    trace = views.write_trace(tmp_path, llama, prompting(corpus), ["list"])
    with pytest.raises(ValueError, match="has no view medusa"):
        readouts.medusa.tabulate(trace)
