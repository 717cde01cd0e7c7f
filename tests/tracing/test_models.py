"""What is loaded by a name: it is known by its contents, says what is odd about it, and carries its base's record."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from tokenizers import processors
from transformers import BertConfig, BertLMHeadModel, GenerationConfig

from mlutils import readouts
from mlutils.traces import TraceError
from mlutils.tracing import adapters, head, models, prompts, views, vocabulary
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import Draft, PackedEngine
from mlutils.tracing.engines import start_engine
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.prompting import Prompting
from mlutils.training import soft_targets
from mlutils.training.sft import encode_pairs
from tests.tracing.families import build

IDS = torch.arange(5, 17)[None]


def prompting(corpus, documents=4):
    few = corpus.take(range(documents))
    return Prompting(few, corpus, draw(corpus, shots=4), prompts.template("foxes", form="comma"), new_tokens=8)


def load(folder):
    return models.load(str(folder), device="cpu", dtype="float32")


@pytest.fixture
def folder(llama, tmp_path):
    """A folder with a random Llama, known by nothing but its place."""
    return write(copy.deepcopy(llama.network), llama.tokenizer, tmp_path / "model")


def write(network, tokenizer, folder):
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(network):
    return network(input_ids=IDS).logits


# -- heads -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("engine", [PackedEngine, PaddedEngine])
def test_a_head_of_few_bits_is_multiplied_in_float32(dtype, engine, llama):
    model = models.load(models.RANDOM, "cpu", dtype)
    assert model.dtype == getattr(torch, dtype) and type(model.network.get_output_embeddings()) is head.Float32Head
    sequences, select = [list(range(5, n)) for n in (40, 60, 80)], list(range(500))
    for sequence, written in zip(
        sequences, engine(model).write(sequences, select, lambda t: len(t) == 1, 1, Draft()), strict=True
    ):
        state = written.states[0].to(model.dtype).float()
        wanted = state @ model.network.get_input_embeddings().weight[select].float().T
        assert np.abs(written.logits[0] - wanted.numpy()).max() < 1e-4
        rounded = (state.to(model.dtype) @ model.network.get_input_embeddings().weight[select].T).float()
        assert len(set(rounded.tolist())) < 0.9 * len(select) or dtype == "float16"  # as it was: many are equal
        assert len(set(written.logits[0].tolist())) > 0.99 * len(select)
        assert written.tokens == [int(model.network(torch.tensor([sequence])).logits[0, -1].argmax())]
    assert type(llama.network.get_output_embeddings()) is torch.nn.Linear  # float32 is left as it is


def test_a_head_is_split_into_blocks_and_keeps_its_bias(monkeypatch):
    monkeypatch.setattr(head, "BLOCK", 100)
    linear = torch.nn.Linear(48, 701).to(torch.bfloat16)
    states = torch.randn(2, 3, 48).to(torch.bfloat16)
    wanted = states.float() @ linear.weight.float().T + linear.bias.float()
    with torch.autocast("cpu", torch.bfloat16):  # as a Trainer asks
        assert torch.allclose(head.Float32Head(linear)(states), wanted, atol=1e-5)


def test_soft_targets_learn_from_the_networks_own_logits():
    network = build("granite", logits_scaling=8.0)
    batch = soft_targets.collate([soft_targets.pack([[5, 6, 7], [5, 6, 8, 9]]) | {"shares": [0.0, 1.0]}])
    odds = soft_targets.log_odds(network, batch, (10, 11))[0]
    for found, sequence in zip(odds, ([5, 6, 7], [5, 6, 8, 9]), strict=True):
        own = network(torch.tensor([sequence])).logits[0, -1]
        assert found == pytest.approx(float(own[10] - own[11]), abs=1e-5)


def test_ties_are_counted(llama, corpus, tmp_path):
    trace = views.write_trace(tmp_path, llama, prompting(corpus), ["list", "unary"])
    assert set(readouts.ties.count(trace).values()) == {0}
    trace.steps, trace.questions = trace.steps.iloc[:0].copy(), trace.questions.head(3).copy()
    rows = [[1.0, 3.0, 3.0, 0.0], [1.0, 1.0, 3.0, 0.0], [1.0, 2.0, 3.0, 4.0]]
    trace.steps["logits"] = []
    trace.steps = trace.steps.reindex(range(3)).assign(variant="list", logits=rows)
    trace.questions["logits"] = [[1.0, 1.0], [1.0, 2.0], [0.5, 0.5]]
    assert list(readouts.ties.count(trace).values()) == [1, 2, 2]


# -- folders -----------------------------------------------------------------------------------------------------------
CHANGES = {
    "weights": lambda folder: write(build("llama", 508), _tokenizer(folder), folder),
    "config.json": lambda folder: _edit(folder / "config.json", rms_norm_eps=0.5),
    "generation_config.json": lambda folder: _edit(folder / "generation_config.json", eos_token_id=[0, 7]),
    "tokenizer.json": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text().replace('"use_regex": true', '"use_regex": false')
    ),
}


def _tokenizer(folder):
    return models.AutoTokenizer.from_pretrained(folder)


def _edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("what", CHANGES)
def test_another_model_in_the_same_folder_is_another_revision(what, folder, corpus, tmp_path):
    before = load(folder)
    assert len(before.revision) == 16 and load(folder).revision == before.revision
    views.write_trace(tmp_path / "trace", before, prompting(corpus), ["list"])
    CHANGES[what](folder)
    after = load(folder)
    assert after.revision != before.revision
    with pytest.raises(TraceError, match=r"other settings \(revision differ\)"):
        views.write_trace(tmp_path / "trace", after, prompting(corpus), ["list"])


def test_a_copy_of_a_folder_is_the_same_revision(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("as it was")
    assert load(tmp_path / "copy").revision == load(folder).revision


# -- tokenizers --------------------------------------------------------------------------------------------------------
@pytest.fixture
def ending(folder, llama):
    """A folder whose tokenizer puts an end-of-text token behind every text."""
    tokenizer, end = copy.deepcopy(llama.tokenizer), llama.tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            tokenizer.backend_tokenizer.post_processor or processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<eos> $A <eos>", special_tokens=[("<eos>", end)]),
        ]
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_an_end_of_text_token_behind_prompts_is_taken_off(ending, llama, capsys):
    model, end = load(ending), llama.tokenizer.eos_token_id
    assert model.tokenizer("a fox")["input_ids"][-1] == end
    assert "ends every text in <eos>" in capsys.readouterr().out
    (bare,), (prompt,) = (vocabulary.encode_prompts(t, ["a fox"]) for t in (llama.tokenizer, model.tokenizer))
    assert prompt == [end, *bare]  # the beginning-of-text token stays
    assert vocabulary.encode_prompts(model.tokenizer, []) == []
    (example,) = encode_pairs(model, ["a fox\n"], ["joy\n"])
    assert end not in example["input_ids"][1:] and model.tokenizer.decode(example["input_ids"][1:]) == "a fox\njoy\n"
    load(models.locate(models.RANDOM)[0])
    assert "ends every text" not in capsys.readouterr().out


def test_soft_targets_are_trained_before_an_end_of_text_token(ending, corpus):
    model = load(ending)
    (row,) = soft_targets.encode_questions(model, corpus.take([0]), [["is it joy:", "is it fear:"]])
    colon = vocabulary.encode(model.tokenizer, ":")[-1]
    assert [row["input_ids"][end] for end in row["ends"]] == [colon, colon]


# -- adapters ----------------------------------------------------------------------------------------------------------
def tune(network, config=None):
    torch.manual_seed(3)
    config = config or LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(copy.deepcopy(network), config).eval()


def test_adapter_files_beside_merged_weights_are_refused(folder, llama):
    tuned = tune(llama.network)
    merged = copy.deepcopy(tuned).merge_and_unload()
    write(merged, llama.tokenizer, folder)
    tuned.save_pretrained(folder)
    with pytest.raises(OSError, match=r"whole weights and an adapter .*remove adapter_config.json"):
        load(folder)
    (folder / "adapter_config.json").unlink()  # what the message says
    (folder / "adapter_model.safetensors").unlink()
    assert torch.allclose(logits(load(folder).network), logits(merged), atol=1e-5)


def adapter(folder, base, name="base+one", **changes):
    """Writes an adapter of ours, trained on d1, from a base in a folder."""
    tuned = tune(base.network)
    record = {"name": name, "base": base.name, "base_revision": base.revision, "recipe": {}, "seed": 0}
    adapters.save(tuned, folder, record | {"trained_on": {"foxes": ["d1"]}} | changes)
    return logits(tuned)


def test_a_peft_folder_given_as_a_model_knows_what_it_and_its_base_were_trained_on(folder, corpus, tmp_path):
    (folder / "manifest.json").write_text(json.dumps({"trained_on": {"foxes": ["d3"]}}))
    base = load(folder)
    wanted = adapter(tmp_path / "peft", base)
    model = load(tmp_path / "peft")
    assert torch.allclose(logits(model.network), wanted, atol=0.02) and model.packed
    assert model.name == str(tmp_path / "peft") and model.revision.startswith(f"{base.revision}+")
    assert model.trained_on == {"foxes": {"d1", "d3"}}
    with pytest.raises(ValueError, match=r"trained on 2 of these 40 documents of foxes \(d1, d3\)"):
        adapters.check_untested(model, corpus)
    _edit(tmp_path / "peft" / "adapter_config.json", lora_alpha=99)
    assert load(tmp_path / "peft").revision != model.revision


def test_a_base_of_another_revision_is_noticed(folder, tmp_path):
    adapter(tmp_path / "peft", load(folder))
    _edit(folder / "config.json", rms_norm_eps=0.5)
    with pytest.raises(OSError, match="was trained from revision .*, here is .*: train it again"):
        load(tmp_path / "peft")


def test_a_peft_folder_of_others_is_taken_with_a_word(folder, llama, tmp_path, capsys):
    tuned = tune(llama.network)
    tuned.peft_config["default"].base_model_name_or_path = str(folder)
    tuned.save_pretrained(tmp_path / "peft")
    model = load(tmp_path / "peft")
    assert torch.allclose(logits(model.network), logits(tuned), atol=1e-4)
    assert "which documents it was trained on is not known" in capsys.readouterr().out
    _edit(tmp_path / "peft" / "adapter_config.json", revision="0" * 40)
    with pytest.raises(OSError, match="trained from revision 0000.*here is"):
        load(tmp_path / "peft")
    _edit(tmp_path / "peft" / "adapter_config.json", revision=None, base_model_name_or_path=None)
    with pytest.raises(OSError, match="does not name the adapter's base model"):
        load(tmp_path / "peft")
    (tmp_path / "peft" / "adapter_config.json").write_text("[]")
    with pytest.raises(OSError, match="adapter_config.json holds a list, not an object: get the adapter again"):
        load(tmp_path / "peft")


def test_adapters_that_cannot_be_merged_are_refused(folder, llama, tmp_path):
    for name, config in (
        ("prompt", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
        ("ia3", IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])),
    ):
        tuned = tune(llama.network, config)
        tuned.peft_config["default"].base_model_name_or_path = str(folder)
        tuned.save_pretrained(tmp_path / name)
    with pytest.raises(OSError, match="does not fit .*PROMPT_TUNING has no weights that can be merged"):
        load(tmp_path / "prompt")
    assert load(tmp_path / "ia3").packed
    (tmp_path / "ia3" / "adapter_model.safetensors").unlink()
    with pytest.raises(OSError, match=r"has no adapter_model.safetensors .*\.bin files can run code"):
        load(tmp_path / "ia3")


@pytest.mark.parametrize("name", ["manifest.json", "run.json"])
def test_a_folder_says_what_it_was_trained_on_in_either_record(name, folder):
    (folder / name).write_text(json.dumps({"trained_on": {"foxes": ["d3"]}}))
    assert load(folder).trained_on == {"foxes": {"d3"}}
    for damaged in ("{", "[]"):
        (folder / name).write_text(damaged)
        with pytest.raises(OSError, match=f"{name} (cannot be read|holds a list).*it says what a model was trained on"):
            load(folder)


# -- families ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "bloom", "mpt", "mamba", "gemma3", "mistral3"])
def test_families_without_sdpa_and_within_images_are_traced(family, llama, corpus, tmp_path, capsys):
    changes = dict(max_seq_len=2048) if family == "mpt" else dict(max_position_embeddings=2048)
    network = build(family, len(llama.tokenizer), **(changes if family not in ("bloom", "mamba") else {}))
    model = load(write(network, llama.tokenizer, tmp_path / "model"))
    says = f"{type(network).__name__} has no SDPA" in capsys.readouterr().out
    assert says == (family not in ("gemma3", "mistral3")), "the attention that is taken is said where it is not SDPA"
    assert model.context == (float("inf") if family in ("bloom", "mamba") else 2048)
    trace = views.write_trace(tmp_path / "trace", model, prompting(corpus), ["list", "unary", "hidden"])
    assert trace.complete().all() and trace.unary_logits()[0].shape == (4, 4)
    depth, width = network.config.get_text_config().num_hidden_layers, network.config.get_text_config().hidden_size
    assert trace.states().shape == (4, width) and trace.layer_states().shape == (4, depth + 1, width)
    (ids,) = vocabulary.encode_prompts(llama.tokenizer, [prompting(corpus).unary_prompts(0)[0]])
    words = vocabulary.answer_tokens(llama.tokenizer, prompts.UNARY_ANSWERS)
    own = network(torch.tensor([ids])).logits[0, -1].detach().double().numpy()
    assert np.abs(np.array(trace.questions["logits"].iloc[0]) - own[words]).max() < 1e-4


def test_code_in_a_folder_is_never_run(folder, tmp_path):
    """Nor is it where the folder says that it holds the model's, the config's and the tokenizer's own classes."""
    ran = tmp_path / "ran"
    for name in ("configuration", "modeling", "tokenization"):
        (folder / f"{name}_own.py").write_text(f"open({str(ran / name)!r}, 'w').close()\n")
    ran.mkdir()
    classes = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    _edit(folder / "config.json", auto_map=classes)
    _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.Own", None]})
    assert load(folder).packed and not list(ran.iterdir())  # by transformers' own classes
    _edit(folder / "config.json", model_type="own")
    with pytest.raises(OSError, match="cannot be read here"):
        load(folder)
    assert not list(ran.iterdir())


def test_a_network_that_reads_on_both_sides_is_refused(llama, tmp_path):
    config = BertConfig(
        vocab_size=508, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    network = BertLMHeadModel(config)
    for parameter in network.parameters():
        parameter.data *= 3
    write(network, llama.tokenizer, tmp_path)
    with pytest.raises(OSError, match="is no causal language model .BertLMHeadModel reads what comes behind"):
        load(tmp_path)


def test_what_forbids_words_in_a_generation_config_is_left_out(llama, tmp_path):
    """Packed answers never knew of it; padded ones did."""
    network = build("gemma2", len(llama.tokenizer))
    plain = start_engine(load(write(network, llama.tokenizer, tmp_path))).write([[5, 6, 7]], [0], lambda t: False, 8)
    first = plain[0].tokens[0]
    GenerationConfig(suppress_tokens=[first], no_repeat_ngram_size=1, eos_token_id=0).save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.network.generation_config.eos_token_id == 0
    assert start_engine(model).write([[5, 6, 7]], [0], lambda t: False, 8)[0].tokens == plain[0].tokens
