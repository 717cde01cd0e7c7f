"""Runs leave a complete record, and read and write only what is theirs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mlutils import paths, runs
from mlutils.files import InUse
from mlutils.parameters import ParameterError, read_parameters
from mlutils.traces import SCHEMA, TraceError

NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))


def defaults(notebook):
    return {parameter.name: parameter.default for parameter in read_parameters(notebook)}


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_notebook_keeps_the_house_rules(notebook):
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert "runs.start(" in cells[3].source and "run.finish(" in cells[-1].source
    text = "\n".join(cell.source for cell in cells)
    assert "sys.path" not in text and "import *" not in text and "pip install" not in text
    assert not any(cell.get("outputs") for cell in cells)


def test_start_finds_parameters_that_nobody_declared(tmp_path):
    namespace = {**defaults("00_datasets"), "folder": str(tmp_path), "pd": pd, "_": 3, "corpora_limit": 5}
    with pytest.raises(ParameterError, match="corpora_limit is no parameter of 00_datasets"):
        runs.start("00_datasets", namespace)


def test_a_run_leaves_a_complete_record(tmp_path):
    run = runs.start("00_datasets", {**defaults("00_datasets"), "folder": str(tmp_path)})
    run.table(pd.DataFrame({"a": [1.0]}), "numbers")
    run.finish(note="kept")
    (record,) = runs.collect([tmp_path])
    assert record["parameters"]["corpus"] == "vignettes" and record["note"] == "kept"
    assert record["produced"] == ["numbers.csv"] and record["seconds"] >= 0 and record["peak_memory_mib"] > 0
    assert {"commit", "dirty", "code", "versions", "device", "sources", "finished"} <= set(record)
    json.loads((tmp_path / "run.json").read_text())


def test_a_run_that_did_not_produce_is_no_run(tmp_path):
    run = runs.start("00_datasets", {**defaults("00_datasets"), "folder": str(tmp_path)})
    (tmp_path / "empty.csv").touch()
    with pytest.raises(AssertionError, match="lost.png, empty.csv"):
        run.finish(["lost.png", "empty.csv"])
    assert runs.collect([tmp_path]) == []


def test_numbers_that_yaml_takes_for_text_are_numbers_in_the_notebook(tmp_path):
    namespace = {**defaults("06_finetune"), "folder": str(tmp_path), "rate": "5e-05", "dropout": 0}
    run = runs.start("06_finetune", namespace)
    assert namespace["rate"] == run.parameters["rate"] == 5e-5 and repr(run.parameters["dropout"]) == "0.0"


@pytest.mark.parametrize("name, value", [("folder", Path("x")), ("reads", ("a",))])
def test_a_value_of_a_type_that_is_not_plain_is_no_default(name, value):
    """A tuple or a Path, given by hand, was passed over, and the record said the default."""
    with pytest.raises(ParameterError, match=f"{name}=.* must be of type"):
        runs.start("20_steps", {**defaults("20_steps"), name: value})


def test_reads_must_be_folders_of_runs(tmp_path):
    for name in ("smollm-a", "smollm-b"):
        (tmp_path / "traces" / name).mkdir(parents=True)
        (tmp_path / "traces" / name / "run.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    reads = ["traces/smollm-a", "traces/smolm-b", "traces", "empty", "traces/../traces/smollm-a"]
    reads = [str(tmp_path / name) for name in reads]
    with pytest.raises(ParameterError) as error:
        runs.start("21_demonstrations", {**defaults("21_demonstrations"), "reads": reads, "sed": 3})
    for words in (
        r"there is no folder .*smolm-b \(is smollm-b meant\?\)",
        "traces holds no run: give its folders smollm-a, smollm-b",
        "empty holds no run: let its notebook finish first", "reads has .*smollm-a twice", "sed is no parameter",
    ):  # fmt: skip
        assert re.search(words, str(error.value)), words


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_an_analysis_of_nothing_is_refused(tmp_path, monkeypatch, notebook):
    """Without `reads`, which a run in JupyterLab or by papermill may forget, and without released runs."""
    monkeypatch.setattr(paths, "RELEASES", tmp_path / "none")
    given = {**defaults(notebook), "folder": str(tmp_path)}
    if "reads" in given and notebook not in ("06_finetune", "10_trace", "40_alignment"):
        with pytest.raises(ParameterError, match=r"^reads=\[\] must have at least one value \(1 or more; .*folders"):
            runs.start(notebook, given)
    else:
        runs.start(notebook, given)


def test_traces_are_found_among_runs_by_their_view(tmp_path):
    for name, views in (("a", ["list"]), ("b", ["list", "ratio"]), ("c", None)):
        (tmp_path / name).mkdir()
        if views:
            settings = {"schema": SCHEMA, "labels": ["x"], "single_label": False, "views": views}
            (tmp_path / name / "trace.json").write_text(json.dumps(settings))
            (tmp_path / name / "documents.parquet").touch()
    folders = [str(tmp_path / name) for name in "cba"]
    assert [trace.folder.name for trace in runs.find_traces(folders)] == ["b", "a"]
    assert [trace.folder.name for trace in runs.find_traces(folders, "ratio")] == ["b"]
    assert runs.find_traces(folders[:1]) == []
    with pytest.raises(TraceError, match="none of the 2 traces in reads has the view order: run 10_trace with order"):
        runs.find_traces(folders, "order")
    (tmp_path / "a" / "documents.parquet").unlink()
    with pytest.raises(TraceError, match="a is not finished"):
        runs.find_traces(folders, "ratio")


HOLD = """
import sys, time
from mlutils import runs
from mlutils.parameters import read_parameters
run = runs.start("00_datasets", {p.name: p.default for p in read_parameters("00_datasets")} | {"folder": sys.argv[1]})
print("holds", flush=True)
time.sleep(60)
"""


def test_a_folder_has_one_run_until_its_process_ends(tmp_path):
    given = {**defaults("00_datasets"), "folder": str(tmp_path)}
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    while (line := other.stdout.readline()) != "holds\n":
        assert line, "it ended"
    with pytest.raises(InUse, match=rf"is being written by process {other.pid} on .*: wait until it has finished, or"):
        runs.start("00_datasets", given)
    other.kill()
    other.wait()
    other.stdout.close()
    runs.start("00_datasets", given).finish()
    runs.start("00_datasets", given)  # of the same process: again and again


def test_text_is_written_and_read_in_a_locale_that_is_not_utf_8(tmp_path):
    script = """
import sys, json, locale
from mlutils import files, runs
from mlutils.parameters import read_parameters
from mlutils.traces import Trace
from mlutils.writer import Writer
assert locale.getpreferredencoding(False).lower() not in ("utf-8", "utf8"), locale.getpreferredencoding(False)
given = {p.name: p.default for p in read_parameters("00_datasets")} | {"folder": sys.argv[1]}
runs.start("00_datasets", given).finish(word="f\\xfcnf \\u2026")
assert runs.collect([sys.argv[1]])[0]["word"] == "f\\xfcnf \\u2026"
for _ in range(2):
    Writer(sys.argv[1], {"labels": ["\\xe4rger"], "single_label": False})
"""
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run([sys.executable, "-c", script, tmp_path], env=plain, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_all_text_is_opened_with_its_encoding():
    """Python's own warning (PEP 597), where a line does not run in the tests: by the names of the calls."""
    bare = re.compile(r"\.(read_text|write_text)\((?![^\n]*encoding)|(?<![\w.])open\((?![^\n]*(encoding|\"[rwa]b\"))")
    found = [
        f"{file}: {line.strip()}"
        for file in (paths.ROOT / "mlutils").rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if bare.search(line) and "files.write_text(" not in line and "def write_text(" not in line
    ]
    assert not found


@pytest.mark.parametrize("content", ["", '{"notebook": ', "[]"])
def test_a_record_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/run.json .*delete it and {tmp_path}/notebook.ipynb to have"):
        runs.collect([tmp_path])
