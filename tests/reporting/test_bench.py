"""The bench: medians, ratios and distances by hand, and what a reader is told of them."""

import importlib
import json
import subprocess
import sys

import pandas as pd
import pytest

from mlutils import paths
from mlutils.reporting import bench


def record(tool, rates, shares, words, dtype="float32", moved=None):
    rows = [
        {"task": "U", "documents": len(shares), "rate": rates[0], "answers": shares},
        {"task": "G", "documents": len(words), "rate": rates[1], "answers": words},
    ]
    told = {"tool": tool, "version": f"{tool} 1", "products": "", "dtype": dtype, "threads": 2, "processor": "AVX2"}
    return {**told, "moved": moved, "rows": rows}


RECORDS = [
    record("transformers", (2, 5), [[0.5, 0.2]], [[1, 2], [3, 5]]),  # asked about the first documents only
    *(
        record("ours", (rate, 4 * rate), [[0.5, 0.25], [0.1, 0.2]], [[1, 2], [3, 4]], moved=moved)
        for rate, moved in ((9, 2e-7), (10, None), (30, None))
    ),
    record("vllm", (4, 80), [[0.5, 0.21], [0.1, 0.2]], [[1, 2], [3, 5]], moved=0.03),
    {"tool": "llama.cpp", "dtype": "Q4_1", "skipped": "no wheel", "rows": []},
]


def test_medians_ratios_and_distances():
    table = bench.summarise(RECORDS).set_index(["tool", "task"])
    assert table.loc[("ours", "U"), ["rate", "ratio", "rounds", "documents"]].tolist() == [10, 5, 3, 2]
    assert table.loc[("ours", "U"), "apart"] == pytest.approx(0.05)
    assert table.loc[("ours", "G"), ["rate", "ratio", "apart"]].tolist() == [40, 8, 0.5]
    assert table.loc[("transformers", "U"), ["ratio", "apart"]].tolist() == [1, 0]


def test_what_neighbours_change_is_told_where_documents_are_asked_together():
    table = bench.summarise(RECORDS).groupby("tool")["moved"].first()
    assert table["ours"] == 2e-7 and table["vllm"] == 0.03 and pd.isna(table["transformers"])


def test_a_tool_that_fails_later_keeps_what_it_measured():
    left = {"tool": "vllm", "dtype": "float32", "skipped": "took longer than 600 seconds", "rows": []}
    table = bench.summarise([*RECORDS, left])
    assert (table["tool"] == "vllm").sum() == 2 and "took longer" not in str(table["skipped"].tolist())


def test_readers_are_told_speeds_targets_and_what_tools_can(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    bench.write(RECORDS)
    folder = tmp_path / "figures" / "bench"
    text = (folder / "bench.md").read_text()
    lines = text.splitlines()
    (ours,) = [line for line in lines if line.startswith("| this engine ") and "5x" in line]
    assert "10 (5x; 5e-02)" in ours and "40 (8x; 50 % other)" in ours
    (ratio,) = [line for line in lines if "target" in line and line.startswith("| vLLM")]
    assert "2.50 (target 2.5)" in ratio and "0.50 (target 1.2)" in ratio  # 10 / 4, 40 / 80
    assert "llama.cpp, four-bit weights (skipped: no wheel)" in text
    assert "AVX2, 2 threads" in text and "medians of up to 3 rounds" in text
    assert any("2e-07" in line and "all layers" in line for line in lines)
    assert len(pd.read_csv(folder / "bench.csv")) == 7 and (folder / "bench.png").exists()


def test_the_table_at_hand_is_that_of_the_csv():
    folder = paths.FIGURES / "bench"
    assert bench.describe(pd.read_csv(folder / "bench.csv")) == (folder / "bench.md").read_text(encoding="utf-8")


def test_every_tool_has_a_name_and_says_what_it_can():
    tools = (paths.ROOT / "bench" / "tools.py").read_text()
    for tool in bench.NAMES:
        assert f'"{tool}": Tool(' in tools
    assert all(len(can) == len(bench.ABILITIES) for can in bench.CAN.values())


def test_the_script_for_a_gpu_runs_on_cores(tmp_path):
    """Tiny networks: the engine's logits are transformers', in float32 within 1e-4, in bfloat16 as near as its own."""
    script = [sys.executable, paths.ROOT / "bench" / "gpu.py", tmp_path / "gpu.csv", "--device", "cpu", "--tiny"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "gpu.csv")
    exact = table[table["part"] == "exact"].set_index(["tool", "dtype"])["apart_float32"]
    assert exact["ours", "float32"] < 1e-4 < exact["ours", "bfloat16"] <= 2 * exact["transformers", "bfloat16"]
    speed = table[table["part"] == "speed"].pivot(index="task", columns="tool", values="rate")
    assert (speed > 0).all(axis=None) and set(speed.index) == set("UBG") and set(speed) == {"ours", "transformers"}


def test_a_tool_that_cannot_run_is_skipped_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(paths.ROOT / "bench")
    script = importlib.import_module("bench")
    script.call(tmp_path, "before", "1")  # no such commit was unpacked
    script.call(tmp_path, "ours", "1")  # no prompts are there
    left = [json.loads((tmp_path / f"{tool}-0.json").read_text()) for tool in ("before", "ours")]
    assert left[0]["skipped"] == "commit 5dd0701 is not in this clone" and left[0]["rows"] == []
    assert "FileNotFoundError" in left[1]["skipped"] and "tokens.json" in left[1]["skipped"]
