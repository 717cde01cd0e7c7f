"""Parameters are strict, runs leave a complete record, and a grid is what its file says."""

import ast
import json

import nbformat
import pandas as pd
import papermill
import pytest
import yaml

from mlutils import paths, runs

NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_notebook_has_typed_and_explained_parameters(notebook):
    parameters = runs.read_parameters(notebook)
    assert {"folder", "seed"} <= {parameter.name for parameter in parameters}
    for parameter in parameters:
        assert parameter.problem(parameter.default) is None
        assert parameter.comment or parameter.name == "seed", f"{parameter.name} has no comment"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_notebook_keeps_the_house_rules(notebook):
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert "runs.start(" in cells[3].source and "run.finish(" in cells[-1].source
    text = "\n".join(cell.source for cell in cells)
    assert "sys.path" not in text and "import *" not in text and "pip install" not in text
    assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_papermill_reads_the_same_parameters(notebook):
    """What `papermill --help-notebook` shows; it leaves out a line that it cannot read, without an error."""
    theirs = papermill.inspect_notebook(paths.NOTEBOOKS / f"{notebook}.ipynb").values()
    theirs = [
        (each["name"], each["inferred_type_name"], ast.literal_eval(each["default"]), each["help"]) for each in theirs
    ]
    assert theirs == [(each.name, each.kind, each.default, each.comment) for each in runs.read_parameters(notebook)]


@pytest.mark.parametrize("cells, message", [
    ([], "needs one cell tagged parameters, it has 0"), (["a: int = 1", "b: int = 2"], "it has 2"),
    (["a: int = 1  # documents\nb = 2  # seeds"], r"write 'b = 2  # seeds' as `name: type = value  # choices`"),
    (["a: int"], "write 'a: int' as"), (["a: int = 1\nprint(a)"], r"write 'print\(a\)' as"),
])  # fmt: skip
def test_a_cell_of_parameters_without_types_or_values_is_refused(tmp_path, monkeypatch, cells, message):
    tagged = [nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=tagged), tmp_path / "99_broken.ipynb")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    with pytest.raises(runs.ParameterError, match=message):
        runs.read_parameters("99_broken")


def test_all_problems_are_reported_at_once():
    with pytest.raises(runs.ParameterError) as error:
        runs.check_parameters("10_trace", {"sed": 1, "limit": "many", "family": "Q", "asked": ["list", "lost"]})
    for word in ("sed is no parameter", "limit='many' must be of type int", "family='Q'", "asked='lost'"):
        assert word in str(error.value)


@pytest.mark.parametrize("name, value, fine", [
    ("limit", 3, True), ("limit", 3.5, False), ("limit", True, False), ("several", 1, True), ("several", "1", False),
    ("shared", 1, False), ("asked", "list", False), ("asked", ["unary"], True), ("options", {"a": 1}, True),
])  # fmt: skip
def test_types_are_strict(name, value, fine):
    if fine:
        assert runs.check_parameters("10_trace", {name: value})[name] == value
    else:
        with pytest.raises(runs.ParameterError, match=name):
            runs.check_parameters("10_trace", {name: value})


def test_start_finds_parameters_that_nobody_declared(tmp_path):
    defaults = {parameter.name: parameter.default for parameter in runs.read_parameters("00_datasets")}
    namespace = {**defaults, "folder": str(tmp_path), "pd": pd, "_": 3, "corpora_limit": 5}
    with pytest.raises(runs.ParameterError, match="corpora_limit is no parameter of 00_datasets"):
        runs.start("00_datasets", namespace)


def test_a_run_leaves_a_complete_record(tmp_path):
    defaults = {parameter.name: parameter.default for parameter in runs.read_parameters("00_datasets")}
    run = runs.start("00_datasets", {**defaults, "folder": str(tmp_path)})
    run.table(pd.DataFrame({"a": [1.0]}), "numbers")
    run.finish(note="kept")
    (record,) = runs.collect([tmp_path])
    assert record["parameters"]["corpus"] == "vignettes" and record["note"] == "kept"
    assert record["produced"] == ["numbers.csv"] and record["seconds"] >= 0 and record["peak_memory_mib"] > 0
    assert {"commit", "dirty", "code", "versions", "device", "sources", "finished"} <= set(record)
    json.loads((tmp_path / "run.json").read_text())


def test_a_run_that_did_not_produce_is_no_run(tmp_path):
    defaults = {parameter.name: parameter.default for parameter in runs.read_parameters("00_datasets")}
    run = runs.start("00_datasets", {**defaults, "folder": str(tmp_path)})
    (tmp_path / "empty.csv").touch()
    with pytest.raises(AssertionError, match="lost.png, empty.csv"):
        run.finish(["lost.png", "empty.csv"])
    assert runs.collect([tmp_path]) == []


def grid(tmp_path, **blocks):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({"runs": blocks}, sort_keys=False))
    return runs.read_grid(file)


def test_axes_are_combined_and_mappings_set_several_parameters(tmp_path):
    points = grid(
        tmp_path,
        **{
            "10_trace": {"model": ["a", "b"], "documents": [{"corpus": "mfrc", "limit": 5}, {"corpus": "boxes"}]},
            "40_alignment": {"reads": {"10_trace": ["corpus"]}, "corpus": ["mfrc"]},
        },
    )
    traces = [point for point in points.values() if point.notebook == "10_trace"]
    assert [(p.parameters["model"], p.parameters["corpus"], p.parameters.get("limit")) for p in traces] == [
        ("a", "mfrc", 5), ("a", "boxes", None), ("b", "mfrc", 5), ("b", "boxes", None),
    ]  # fmt: skip
    (alignment,) = [point for point in points.values() if point.notebook == "40_alignment"]
    assert alignment.reads == (traces[0].key, traces[2].key)


def test_a_run_may_read_only_runs_with_a_value(tmp_path):
    traces = {"model": ["a", "b"], "corpus": ["mfrc", "boxes"]}
    points = grid(
        tmp_path,
        **{
            "10_trace": traces,
            "40_alignment": {"reads": {"10_trace": {"corpus": None, "model": "b"}}, "corpus": ["mfrc"]},
        },
    )
    (alignment,) = [point for point in points.values() if point.notebook == "40_alignment"]
    assert [points[key].parameters for key in alignment.reads] == [{"model": "b", "corpus": "mfrc"}]


def test_a_changed_seed_is_another_run_and_leaves_the_others_alone(tmp_path):
    before = grid(tmp_path, **{"00_datasets": {"corpus": ["mfrc", "boxes"], "seed": 0}})
    more = grid(tmp_path, **{"00_datasets": {"corpus": ["mfrc", "boxes", "semeval"], "seed": 0}})
    after = grid(tmp_path, **{"00_datasets": {"corpus": ["mfrc", "boxes"], "seed": 1}})
    assert set(before) < set(more) and len(more) == 3
    assert not set(before) & set(after)


def test_blocks_of_one_notebook_read_the_blocks_before_their_own(tmp_path):
    traced = {"corpus": ["mfrc"], "reads": {"10_trace": []}}
    points = grid(
        tmp_path,
        **{
            "10_trace": [
                {"model": ["a", "b"], "corpus": ["mfrc"]},
                {"model": ["c"], "corpus": ["mfrc", "boxes"], "reads": {"10_trace": ["corpus"]}},
            ],
            "40_alignment": traced,
        },
    )
    names = {point.parameters.get("model", "") + point.parameters["corpus"]: point for point in points.values()}
    first = (names["amfrc"].key, names["bmfrc"].key)
    assert names["amfrc"].reads == () and names["cmfrc"].reads == first and names["cboxes"].reads == ()
    assert names["mfrc"].reads == (*first, names["cmfrc"].key, names["cboxes"].key)
    with pytest.raises(runs.ParameterError, match="is there twice"):
        grid(tmp_path, **{"10_trace": [{"model": ["a"]}, {"model": ["a"]}]})


def test_a_grid_with_wrong_parameters_is_refused_as_a_whole(tmp_path):
    with pytest.raises(runs.ParameterError, match="(?s)corpus='none_such'.*colour"):
        grid(tmp_path, **{"00_datasets": {"corpus": ["none_such"]}, "10_trace": {"colour": ["red"]}})


@pytest.mark.parametrize("name", sorted(path.stem for path in paths.GRIDS.glob("*.yaml")))
def test_the_grids_in_the_repository_fit_the_notebooks(name):
    points = runs.read_grid(paths.GRIDS / f"{name}.yaml")
    assert points
    pages = [point for point in points.values() if point.notebook == "90_paper"]
    assert len(pages) == 1 and pages[0].parameters["grid"] == name
    assert set(pages[0].reads) == set(points) - {pages[0].key}
