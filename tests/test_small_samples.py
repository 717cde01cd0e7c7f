"""Samples of one and five documents go through 10_trace and 40_alignment; rows that cannot be fitted are named."""

import pandas as pd
import papermill
import pytest

from mlutils import paths, scoring
from mlutils.files import read_json

KEYS = ["corpus", "documents", "model", "method", "metric"]


def execute(notebook, folder, monkeypatch, **parameters):
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    papermill.execute_notebook(
        paths.NOTEBOOKS / f"{notebook}.ipynb",
        f"{folder}.ipynb",
        {"folder": str(folder), **parameters},
        kernel_name="python3",
        progress_bar=False,
    )
    return read_json(folder / "run.json", OSError, "")


@pytest.mark.parametrize("limit, left_out", [
    (1, {"compare_to_none_offsets", "unary_breakdown_offsets", "max_over_generations_offsets", "stacking",
         "linear_probing"}),
    (5, {"linear_probing", "stacking"}),  # the random model says no label: there is no state to probe
])  # fmt: skip
def test_rows_that_cannot_be_fitted_are_left_out_and_named(tmp_path, monkeypatch, limit, left_out):
    asked = {"model": "random-llama", "limit": limit, "shots": 2}
    drawn = {"corpus": "vignettes", "sample": "uniform", "limit": limit}
    for reserve in (0, limit):
        execute("10_trace", tmp_path / f"trace-{reserve}", monkeypatch, reserve=reserve, **asked)
    reads = [str(tmp_path / f"trace-{reserve}") for reserve in (0, limit)]
    execute("40_alignment", tmp_path / "alignment", monkeypatch, reads=reads, **drawn)
    named = pd.read_csv(tmp_path / "alignment" / "left_out.csv")
    table = pd.read_csv(tmp_path / "alignment" / "alignment.csv")
    assert set(named["method"]) >= left_out and named["why"].str.len().min() > 20
    assert not set(named["method"]) & set(table["method"])
    assert {"unary_breakdown", "hard_predictions", "base_rate", "noise_floor"} <= set(table["method"])
    assert set(table["n"]) == {limit}
    # what stands in the notebook's tables is what its file of predictions scores elsewhere
    scored = scoring.score(tmp_path / "alignment" / "predictions.parquet", **drawn)
    for name, found in zip(("alignment", "measures"), scored, strict=True):
        table = pd.read_csv(tmp_path / "alignment" / f"{name}.csv", dtype={"model": str}, keep_default_na=False)
        numbers = ["mean", "low", "high", "n"]
        ours, theirs = (each.set_index(KEYS)[numbers].sort_index() for each in (table, found))
        assert list(ours.index) == list(theirs.index)
        assert ours.apply(pd.to_numeric).to_numpy() == pytest.approx(theirs.to_numpy(float), rel=1e-5, nan_ok=True)
