"""Run all, anywhere: every analysis, with its defaults, reads released runs, without models, mirror or network."""

import os

import papermill
import pytest

from mlutils import files, paths, releases

NOTEBOOKS = sorted(each.stem for each in paths.NOTEBOOKS.glob("*.ipynb"))
ANALYSES = [name for name in NOTEBOOKS if name not in releases.ASKING]
RELEASED = any(paths.RELEASES.glob("*/10_trace/*/run.json"))


@pytest.mark.skipif(not RELEASED, reason="no runs are released")
@pytest.mark.parametrize("notebook", ANALYSES)
def test_an_analysis_with_its_defaults_shows_its_section(notebook, tmp_path, monkeypatch):
    (tmp_path / "barred").mkdir()
    (tmp_path / "barred" / "torch.py").write_text("raise RuntimeError('an analysis loads no model')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "barred"), str(paths.ROOT)]))
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONE_LABEL_MIRROR", raising=False)
    papermill.execute_notebook(
        paths.NOTEBOOKS / f"{notebook}.ipynb",
        tmp_path / "out.ipynb",
        {"folder": str(tmp_path / "run")},
        kernel_name="python3",
        progress_bar=False,
    )
    record = files.read_json(tmp_path / "run" / "run.json", OSError, "")
    assert notebook == "00_datasets" or record["parameters"]["reads"]
    assert any((tmp_path / "run").rglob("*.png")) or notebook == "22_label_order"  # which has a table
    assert record["produced"] and not (tmp_path / "cache" / "sources").exists()
