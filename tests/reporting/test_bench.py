"""The bench: medians, ratios and distances by hand."""

import pandas as pd
import pytest

from mlutils import paths
from mlutils.reporting import bench


def record(tool, rates, shares, words, dtype="float32"):
    rows = [{"task": "U", "rate": rates[0], "answers": shares}, {"task": "G", "rate": rates[1], "answers": words}]
    return {"tool": tool, "version": "x 1", "products": "", "dtype": dtype, "rows": rows}


RECORDS = [
    *(record("ours", (rate, 4 * rate), [[0.5, 0.25], [0.1, 0.2]], [[1, 2], [3, 4]]) for rate in (9, 10, 30)),
    record("transformers", (2, 5), [[0.5, 0.2]], [[1, 2], [3, 5]]),  # asked about the first documents only
]


def test_medians_ratios_and_distances():
    table = bench.summarise(RECORDS).set_index(["tool", "task"])
    assert table.loc[("ours", "U"), ["rate", "ratio", "rounds"]].tolist() == [10, 5, 3]
    assert table.loc[("ours", "U"), "apart"] == pytest.approx(0.05)
    assert table.loc[("ours", "G"), ["rate", "ratio", "apart"]].tolist() == [40, 8, 0.5]
    assert table.loc[("transformers", "U"), ["ratio", "apart"]].tolist() == [1, 0]


def test_files_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    small = bench.write(RECORDS)
    folder = tmp_path / "figures" / "bench"
    assert list(small["tool"]) == ["transformers, a prompt at a time", "this engine"]
    assert "10.00 (5x, 5e-02)" in (folder / "bench.md").read_text()
    assert len(pd.read_csv(folder / "bench.csv")) == 4 and (folder / "bench.png").exists()
