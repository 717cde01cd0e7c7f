"""Parameters are strict: types, choices and ranges stand in the notebook, and all problems are told at once."""

import ast
import re

import nbformat
import papermill
import pytest

from mlutils import paths
from mlutils.parameters import Parameter, ParameterError, check_parameters, read_parameters

MAY_READ_NOTHING = ("06_finetune", "10_trace", "40_alignment")  # no adapters, no traces: the reference rows alone
NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_notebook_has_typed_and_explained_parameters(notebook):
    parameters = read_parameters(notebook)
    assert {"folder", "seed"} <= {parameter.name for parameter in parameters}
    for parameter in parameters:
        must_be_given = parameter.name == "reads" and notebook not in MAY_READ_NOTHING
        assert ("must have at least one value" in (parameter.problem(parameter.default) or "")) == must_be_given
        assert must_be_given or parameter.problem(parameter.default) is None
        assert parameter.comment, f"{parameter.name} has no comment"
        if parameter.kind in ("int", "float", "list[int]", "list[float]"):
            assert parameter.range, f"{parameter.name}: its comment must begin with its range, e.g. `1 or more; `"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_papermill_reads_the_same_parameters(notebook):
    """What `papermill --help-notebook` shows; it leaves out a line that it cannot read, without an error."""
    theirs = papermill.inspect_notebook(paths.NOTEBOOKS / f"{notebook}.ipynb").values()
    theirs = [
        (each["name"], each["inferred_type_name"], ast.literal_eval(each["default"]), each["help"]) for each in theirs
    ]
    assert theirs == [(each.name, each.kind, each.default, each.comment) for each in read_parameters(notebook)]


@pytest.mark.parametrize("cells, message", [
    ([], "needs one cell tagged parameters, it has 0"), (["a: int = 1", "b: int = 2"], "it has 2"),
    (["a: int = 1  # documents\nb = 2  # seeds"], r"write 'b = 2  # seeds' as `name: type = value  # choices`"),
    (["a: int"], "write 'a: int' as"), (["a: int = 1\nprint(a)"], r"write 'print\(a\)' as"),
])  # fmt: skip
def test_a_cell_of_parameters_without_types_or_values_is_refused(tmp_path, monkeypatch, cells, message):
    tagged = [nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=tagged), tmp_path / "99_broken.ipynb")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    with pytest.raises(ParameterError, match=message):
        read_parameters("99_broken")


def test_all_problems_are_reported_at_once():
    with pytest.raises(ParameterError) as error:
        check_parameters("10_trace", {"sed": 1, "limit": "many", "family": "Q", "asked": ["list", "lost"]})
    for word in ("sed is no parameter", "limit='many' must be of type int", "family='Q'", "asked='lost'"):
        assert word in str(error.value)


@pytest.mark.parametrize("name, value, fine", [
    ("limit", 3, True), ("limit", 3.5, False), ("limit", True, False), ("several", 1, True), ("several", "1", False),
    ("shared", 1, False), ("asked", "list", False), ("asked", ["unary"], True), ("options", {"a": 1}, True),
])  # fmt: skip
def test_types_are_strict(name, value, fine):
    if fine:
        assert check_parameters("10_trace", {name: value})[name] == value
    else:
        with pytest.raises(ParameterError, match=name):
            check_parameters("10_trace", {name: value})


@pytest.mark.parametrize("comment, allowed, refused", [
    ("1 or more; tokens", [1, 10**9], [0, -1, float("inf"), float("nan")]), ("0 to 1", [0, 0.5, 1], [-0.1, 1.1]),
    ("above 0; of the steps", [1e-9, 7], [0, -1, float("inf")]), ("0 to below 1", [0, 0.999], [1, -1e-9]),
    ("above 0 to 1; rate", [1e-7, 1], [0, 1.5]), ("3 to 4294967295", [3, 4294967295], [2, 4294967296]),
    ("0; all", [-5], []), ("of 0 or more", [-5], []), ("", [-5], []),
])  # fmt: skip
def test_a_comment_says_the_range(comment, allowed, refused):
    parameter = Parameter("x", "float", 0.5, comment)
    assert not any(parameter.problem(value) for value in allowed)
    for value in refused:
        assert f"must be {parameter.range}" in parameter.problem(value)


@pytest.mark.parametrize("notebook, name, values", [
    ("10_trace", "new_tokens", [0, -1]), ("10_trace", "limit", [-3]), ("10_trace", "shots", [-1]),
    ("10_trace", "several", [-0.1, 1.5, float("nan")]), ("10_trace", "seed", [-1, 2**32]), ("10_trace", "asked", [[]]),
    ("06_finetune", "rate", [0, -1e-4, float("inf")]), ("06_finetune", "seeds", [[], [-1], [0, 0]]),
    ("06_finetune", "group", [2]), ("06_finetune", "dropout", [1, 1.0]), ("05_miniatures", "sizes", [[], ["xs", "xs"]]),
    ("07_encoder", "thin", [1.01]), ("07_encoder", "max_tokens", [2]), ("41_sets", "temperature", [0]),
    ("24_linear_probes", "controls", [0]), ("20_steps", "lines", [0, -300]),
])  # fmt: skip
def test_numbers_out_of_range_and_empty_lists_are_refused(notebook, name, values):
    for value in values:
        with pytest.raises(ParameterError, match=name):
            check_parameters(notebook, {name: value})


@pytest.mark.parametrize("given, problem", [
    ([], "must have at least one value .1 or more; folders., e.g. -y '.reads: .....}'"),
    (["a", "a"], "has a value twice"), (["a", "b", "c", "d"], "must be 1 to 3"), (["a"], None), (["a", "b", "c"], None),
])  # fmt: skip
def test_a_range_of_texts_is_of_their_number(given, problem):
    parameter = Parameter("reads", "list[str]", [], "1 to 3; folders" if len(given) > 2 else "1 or more; folders")
    found = parameter.problem(given)
    assert re.search(problem, found) if problem else found is None


@pytest.mark.parametrize("notebook, given, wanted", [
    ("06_finetune", {"rate": "5e-05", "beta": "1E-3", "dropout": 0}, {"rate": 5e-5, "beta": 1e-3, "dropout": 0.0}),
    ("06_finetune", {"steps": 1e3, "seeds": [0.0, "1e1"]}, {"steps": 1000, "seeds": [0, 10]}),
    ("10_trace", {"several": 1, "options": {"a": 1.0, "b": {"c": 2.5}, 3: True}},
     {"several": 1.0, "options": {"a": 1, "b": {"c": 2.5}, "3": True}}),
])  # fmt: skip
def test_what_is_written_as_a_number_is_that_number(notebook, given, wanted):
    checked = check_parameters(notebook, given)
    got = {name: checked[name] for name in wanted}
    assert repr(got) == repr(wanted)


@pytest.mark.parametrize("name, value, hint", [
    ("asked", "list", r"-y '\{asked: \[\.\.\.\]\}'"), ("asked", "['list', 'unary']", "-y"), ("options", "{}", "-y"),
    ("model", 12, "-r model TEXT"), ("shared", "true", "True or False"), ("rate", 1.0, "is no parameter of 10_trace"),
    ("shot", 1, r"is shots meant\?"), ("corpus", "vignetes", r"is vignettes meant\?"),
])  # fmt: skip
def test_errors_say_what_to_do(name, value, hint):
    with pytest.raises(ParameterError, match=hint):
        check_parameters("10_trace", {name: value})


def test_an_unknown_notebook_is_named_with_the_nearest():
    with pytest.raises(ParameterError, match=r"10_trase is no notebook \(is 10_trace meant\?\); there are 00_datasets"):
        check_parameters("10_trase", {})
