"""What models need of memory and what is free: by hand, from the catalogue, from files; refused before it is read."""

import math

import gguf
import numpy as np
import pytest
import torch

from mlutils import capacity, paths
from mlutils.tracing import memory, models, weights
from tests.tracing import families

CPU = torch.device("cpu")
LARGE, MIDDLE, SMALL = "qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"


def group(folder, names, limit, used, given_back):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[1]).write_text(f"{limit}\n")
    (folder / names[2]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{names[3]} {given_back}\nunevictable 0\n")


@pytest.mark.parametrize("version, line", [(1, "4:hugetlb,memory:/jobs/one"), (2, "0::/jobs/one")])
def test_limits_of_control_groups_count_with_those_above(tmp_path, version, line):
    names = capacity.FILES[version]
    own, root = tmp_path / "own", tmp_path / "groups"
    own.write_text(f"5:cpu:/jobs/one\n{line}\n")
    assert capacity._measure_groups(own, root) == math.inf
    group(root / names[0] / "jobs" / "one", names, 1000, 700, 50)
    assert capacity._measure_groups(own, root) == 350
    group(root / names[0] / "jobs", names, 2000, 1900, 30)
    assert capacity._measure_groups(own, root) == 130
    group(root / names[0], names, "max" if version == 2 else 2**63 - 4096, 10**9, 0)
    assert capacity._measure_groups(own, root) == 130
    group(root / names[0] / "jobs", names, 2000, 2500, 30)  # limits may be lowered below what is used
    assert capacity._measure_groups(own, root) == 0
    own.write_text(line.replace("/jobs/one", "/not/mounted/here"))  # in a container
    group(root / names[0], names, 500, 100, 0)
    assert capacity._measure_groups(own, root) == 400
    assert capacity._measure_groups(tmp_path / "no such file", root) == math.inf


def test_what_is_free_is_the_least(monkeypatch):
    assert 2**20 < memory.measure_free(CPU) < 2**50
    monkeypatch.setattr(capacity, "_measure_groups", lambda: 1234)
    assert memory.measure_free(CPU) == capacity.measure_free() == 1234


def test_parameters_are_known_by_name_and_counted_in_files(tmp_path):
    assert capacity.count_parameters(LARGE) == 1_777_088_000  # 1,543,714,304 and an output matrix of 151,936 x 1,536
    assert capacity.count_parameters(f"{MIDDLE}+sft-semeval+rl_f1-mfrc") == 494_032_768 + 151_936 * 896
    network = families.build("llama")
    network.save_pretrained(tmp_path / "one+two", max_shard_size="20KB")
    assert len(list((tmp_path / "one+two").glob("*.safetensors"))) > 1
    assert capacity.count_parameters(str(tmp_path / "one+two")) == network.num_parameters()
    writer = gguf.GGUFWriter(tmp_path / "two.gguf", "llama")
    writer.add_tensor("a", np.zeros((4, 8), np.float32))
    writer.add_tensor(
        "b", gguf.quantize(np.ones((3, 64), np.float32), kind := gguf.GGMLQuantizationType.Q8_0), None, kind
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert capacity.count_parameters(str(tmp_path / "two.gguf")) == 4 * 8 + 3 * 64
    assert [capacity.count_parameters(name) for name in ("", "someone/else", str(tmp_path))] == [None] * 3


@pytest.mark.parametrize("name", models.NAMED)
def test_the_catalogue_knows_how_much_a_named_model_holds(name):
    folder = paths.cache() / "models" / f"{name}-{models.quantised.UNPACKED}"
    if not folder.exists():
        pytest.skip(f"{name} is not in the cache")
    assert capacity.count_parameters(str(folder)) == capacity.count_parameters(name)


def test_a_large_model_gets_all_cores_and_so_does_one_that_does_not_fit_twice():
    """1.5 times four bytes a number, and 2 GB."""
    assert capacity.estimate(1_777_088_000) == 10_662_528_000 + 2_000_000_000
    assert capacity.estimate(1_777_088_000, 2) == capacity.estimate(1_777_088_000, 2, False) == 5_554_176_000
    assert capacity.plan(SMALL, 8, 20e9)[0] == capacity.plan(MIDDLE, 8, 20e9)[0] == 4
    assert capacity.plan(LARGE, 8, 500e9)[0] == 8
    assert [capacity.plan(MIDDLE, 8, free)[0] for free in (11.5e9, 11.6e9)] == [8, 4]  # 5.78 GB each
    assert capacity.plan(SMALL, 1, 20e9)[0] == 1 and capacity.plan("someone/else", 8, 1e9) == (4, None)


def test_what_a_model_needs_is_said_or_refused_before_it_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(capacity, "count_parameters", lambda place: 10**9 if place == "large" else 10**8)
    monkeypatch.setattr(capacity, "measure_free", lambda: 8.1e9)
    weights.check("one", "large", torch.float32, "cpu")
    said = (
        "one: 1,000 million parameters in float32, which need 8.0 GB of memory while they are asked; 8.1 GB are free\n"
    )
    assert capsys.readouterr().out == said
    weights.check("two", "small", torch.float32, "cpu")
    assert capsys.readouterr().out == ""  # 0.6 GB of weights
    monkeypatch.setattr(capacity, "measure_free", lambda: 7.9e9)
    with pytest.raises(
        MemoryError, match="model 'one' has 1,000 million .* 7.9 GB are free: end other .*dtype bfloat16"
    ):
        weights.check("one", "large", torch.float32, "cpu")
    weights.check("one", "large", torch.bfloat16, "cpu")  # 4 GB
    assert "in bfloat16, which need 4.0 GB" in capsys.readouterr().out
    with pytest.raises(MemoryError, match="unpacking model 'one' needs 8.0 GB"):
        weights.check_unpacking("one", 15 * 10**8)
    weights.check_unpacking("one", 10**9)
    assert "one: unpacked once, some minutes, 6.0 GB of memory" in capsys.readouterr().out


def test_loading_refuses_a_model_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(capacity, "measure_free", lambda: 2e9)
    with pytest.raises(MemoryError, match="model 'random-llama' has .*2.0 GB are free"):
        models.load(models.RANDOM, "cpu", "float32")
