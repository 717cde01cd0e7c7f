"""Adapters are found by name, merged in a chain, and never asked about what they were trained on."""

import copy
import dataclasses
import json
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from mlutils import corpora, paths
from mlutils.tracing import adapters, models

IDS = torch.arange(5, 17)[None]
SHIPPED = sorted(file.parent for file in (paths.DATA / "adapters").glob(f"*/{adapters.WEIGHTS}"))


def tune(network, seed):
    """Returns a network with a random adapter, as training leaves it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(copy.deepcopy(network), config).eval()


def record(name, base, **more):
    start = {"base": base.name, "base_revision": base.revision}
    return {"name": name, **start, "trained_on": {"foxes": ["d1", "d2"]}, "recipe": {}, "seed": 0, **more}


@torch.no_grad()
def logits(network):
    return network(input_ids=IDS).logits


@pytest.fixture
def place(llama, tmp_path):
    """A run's folder with the adapter `random-llama+one`."""
    adapters.save(tune(llama.network, 1), tmp_path / "adapters" / "random-llama+one", record("random-llama+one", llama))
    return tmp_path


def test_a_merged_adapter_is_the_tuned_model(llama, place):
    before = logits(llama.network)
    merged = models.load("random-llama+one", "cpu", "float32", [place])
    tuned = logits(tune(llama.network, 1))
    assert (tuned - before).abs().max() > 0.5
    assert torch.allclose(logits(merged.network), tuned, atol=0.02)  # the file is float16
    assert type(merged.network) is type(llama.network) and merged.packed
    assert not any("lora" in name for name, _ in merged.network.named_modules())
    assert merged.name == "random-llama+one" and merged.revision.startswith("seed-0+") and len(merged.revision) == 19
    assert merged.trained_on == {"foxes": {"d1", "d2"}}
    assert torch.equal(logits(models.load("random-llama", "cpu", "float32").network), before)


def test_a_chain_applies_one_after_the_other(llama, place, tmp_path):
    first = models.load("random-llama+one", "cpu", "float32", [place])
    name = "random-llama+one+two"
    second = tmp_path / "elsewhere"
    made = record(name, first, trained_on={"foxes": ["d3"], "boxes": ["b1"]})
    adapters.save(tune(first.network, 2), second / "adapters" / name, made)
    chain = models.load(name, "cpu", "float32", [second, place])
    assert chain.trained_on == {"foxes": {"d1", "d2", "d3"}, "boxes": {"b1"}}
    assert chain.revision.startswith(first.revision + "+")
    # By hand: each weight is that of the model plus alpha / rank B A of both.
    weight = "model.layers.1.mlp.up_proj"
    wanted = llama.network.get_submodule(weight).weight.clone()
    for home in (place / "adapters" / "random-llama+one", second / "adapters" / name):
        held = load_file(home / adapters.WEIGHTS)
        a, b = (held[f"base_model.model.{weight}.lora_{side}.weight"].float() for side in "AB")
        wanted += 2 * b @ a
    assert torch.allclose(chain.network.get_submodule(weight).weight, wanted, atol=1e-5)


def test_files_are_half_size_and_whole(llama, place):
    home = place / "adapters" / "random-llama+one"
    assert {value.dtype for value in load_file(home / adapters.WEIGHTS).values()} == {torch.float16}
    config = json.loads((home / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "random-llama" and config["inference_mode"]
    assert [each.name for each in home.parent.iterdir()] == ["random-llama+one"]  # nothing half made
    broken = tune(llama.network, 1)
    next(value for name, value in broken.named_parameters() if "lora_A" in name).data[0, 0] = 1e6
    with pytest.raises(ValueError, match="1 weights are not finite in float16"):
        adapters.save(broken, place / "adapters" / "x", record("x", llama))
    short = {"name": "x", "base": "random-llama", "trained_on": {}, "recipe": {}}
    with pytest.raises(ValueError, match="lacks base_revision, seed"):
        adapters.save(broken, place / "x", short)
    assert not (place / "adapters" / "x").exists()


def test_an_unknown_adapter_is_answered_with_the_known_ones(place):
    with pytest.raises(OSError, match=r"no adapter is called 'random-llama\+lost'.*random-llama\+one.*06_finetune"):
        models.load("random-llama+lost", "cpu", "float32", [place])
    with pytest.raises(OSError, match="which hold"):
        models.load("random-llama+one", "cpu", "float32")  # the place was not given


def test_an_adapter_of_other_weights_is_refused(llama, place):
    home = place / "adapters" / "random-llama+one"
    known = json.loads((home / "run.json").read_text())
    (home / "run.json").write_text(json.dumps(known | {"base_revision": "seed-1"}))
    with pytest.raises(OSError, match="revision seed-1 of 'random-llama', here is seed-0: train it again"):
        models.load("random-llama+one", "cpu", "float32", [place])
    (home / "run.json").write_text(json.dumps(known))
    narrow = copy.deepcopy(llama.network)
    narrow.model.layers[0].mlp.up_proj = torch.nn.Linear(48, 90, bias=False)
    with pytest.raises(OSError, match="does not fit"):
        adapters.apply(dataclasses.replace(llama, network=narrow), "random-llama+one", home)
    (home / "run.json").write_text("{")
    with pytest.raises(OSError, match="run.json cannot be read .*it is the record of an adapter, train it again"):
        models.load("random-llama+one", "cpu", "float32", [place])


def test_shipped_adapters_come_after_the_runs(llama, place, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    for name, seed in (("random-llama+one", 3), ("random-llama+two", 4)):
        adapters.save(tune(llama.network, seed), tmp_path / "data" / "adapters" / name, record(name, llama))
    assert adapters.find("random-llama+one", [place]).is_relative_to(place / "adapters")
    assert adapters.find("random-llama+one").is_relative_to(tmp_path / "data")
    assert adapters.find("random-llama+two", [place]).is_relative_to(tmp_path / "data")


def test_documents_that_were_trained_on_are_refused(llama, corpus):
    tuned = dataclasses.replace(llama, name="tuned", trained_on={"foxes": frozenset(["d3", "d4", "e9"])})
    with pytest.raises(ValueError, match=r"trained on 2 of these 40 documents of foxes \(d3, d4\).*tested ones"):
        adapters.check_untested(tuned, corpus)
    adapters.check_untested(tuned, corpus.take(range(5, 40)))
    adapters.check_untested(tuned, dataclasses.replace(corpus, name="hares"))
    adapters.check_untested(llama, corpus)


def test_copies_of_what_was_trained_on_are_refused(llama, corpus):
    """GoEmotions has the same text under several ids: 43 of dev, 37 of test stand in train as well."""
    copied = dataclasses.replace(
        corpus,
        documents=corpus.documents.assign(
            id=[f"e{i}" for i in range(40)], text=corpus.documents["text"].str.upper() + "\n"
        ),
    )
    marks = {"foxes": frozenset(corpora.text_marks(corpus.take([3, 4])))}
    tuned = dataclasses.replace(llama, name="tuned", trained_on={"foxes": frozenset(["d3", "d4"])}, trained_texts=marks)
    with pytest.raises(ValueError, match=r"trained on 2 of these 40 documents of foxes \(e3, e4\)"):
        adapters.check_untested(tuned, copied)
    adapters.check_untested(tuned, copied.take(range(5, 40)))


# -- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [b"", b"{", b'{"name": "x"}', b"[]", b'{"name": "\xe9"}'])
def test_a_broken_record_is_named_and_its_neighbour_is_not_to_blame(llama, place, content):
    two = place / "adapters" / "random-llama+two"
    adapters.save(tune(llama.network, 2), two, record("random-llama+two", llama))
    (two / "run.json").write_bytes(content)
    assert models.load("random-llama+one", "cpu", "float32", [place]).name == "random-llama+one"
    where = re.escape(str(two))
    problem = f"{where}/run.json (cannot be read|holds a list)|adapter {where} has a run.json without base, "
    with pytest.raises(OSError, match=problem):
        models.load("random-llama+two", "cpu", "float32", [place])
    with pytest.raises(
        OSError, match=r"llama\+lost'.* which hold .*one, random-llama\+two \(its run.json cannot be read"
    ):
        models.load("random-llama+lost", "cpu", "float32", [place])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("left", [0, 0.5])
def test_damaged_files_of_an_adapter_are_named(place, name, left):
    file = place / "adapters" / "random-llama+one" / name
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    with pytest.raises(OSError, match=rf"{name}.*cannot be read.*(train it again|get the adapter again)"):
        models.load("random-llama+one", "cpu", "float32", [place])


def test_a_config_that_is_no_object_is_named(place):
    (place / "adapters" / "random-llama+one" / "adapter_config.json").write_text("[]")
    with pytest.raises(OSError, match="one.adapter_config.json holds a list, not an object: train it again"):
        models.load("random-llama+one", "cpu", "float32", [place])


@pytest.mark.parametrize("left", [0, 0.5])
def test_damaged_weights_of_a_model_are_named(llama, tmp_path, left):
    llama.network.save_pretrained(tmp_path)
    llama.tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    with pytest.raises(OSError, match=rf"the weights of model '{tmp_path}' cannot be read .*{file}: the file is cut"):
        models.load(str(tmp_path), "cpu", "float32")


def test_names(tmp_path):
    assert adapters.full_name("m", "sft", "mfrc") == "m+sft-mfrc"
    assert adapters.full_name("m+sft-mfrc", "rl_f1", "mfrc", seed=2) == "m+sft-mfrc+rl_f1-mfrc-seed2"
    assert adapters.full_name("m", "sft", "mfrc", shots=3) == "m+sft_icl-mfrc"
    assert adapters.full_name("m", "sft", "mfrc", seed=1, shots=3, label="mine") == "m+mine-seed1"
    for label in ("a+b", "a/b", " a"):
        with pytest.raises(ValueError, match="must hold no"):
            adapters.full_name("m", "sft", "mfrc", label=label)
    assert adapters.split_name("org/m+a+b") == ("org/m", ["org/m+a", "org/m+a+b"])
    assert adapters.split_name("m") == ("m", [])
    assert adapters.folder_name("org/m+a") == "org--m+a"
    odd = tmp_path / "x+y"
    odd.mkdir()
    assert adapters.split_name(f"{odd}") == (str(odd), [])  # a folder that exists is a model
    assert adapters.split_name(f"{odd}+a") == (str(odd), [f"{odd}+a"])


def test_miniatures_are_read_as_float32_with_what_they_were_trained_on(llama, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    with pytest.raises(OSError, match="'miniature-s' is not in .*make miniatures.*there are none"):
        models.load("miniature-s", "cpu")
    home = tmp_path / "miniatures" / "xs"
    copy.deepcopy(llama.network).half().save_pretrained(home)
    llama.tokenizer.save_pretrained(home)
    (home / "manifest.json").write_text(json.dumps({"trained_on": {"vignettes": ["v1"]}}))
    model = models.load("miniature-xs", "cpu")
    assert model.dtype == torch.float32 and model.trained_on == {"vignettes": {"v1"}} and len(model.revision) == 16
    assert torch.allclose(logits(model.network), logits(llama.network), atol=0.05)
    with pytest.raises(OSError, match="there are miniature-xs"):
        models.load("miniature-m", "cpu")


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_adapter_is_small_and_knows_no_tested_document(folder):
    made = adapters.read_record(folder)
    assert folder.name == adapters.folder_name(made["name"])
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5 * 2**20
    tested = corpora.load("vignettes", "dev+test")
    known = set(made["trained_on"]["vignettes"])
    assert len(known) == made["documents"] and known <= set(corpora.training_documents(tested).documents["id"])
