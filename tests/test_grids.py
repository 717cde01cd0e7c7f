"""A grid is what its file says, or is refused with file, line and all problems."""

import hashlib
import json
import re

import pytest
import yaml

from mlutils import paths
from mlutils.grids import read_grid
from mlutils.parameters import ParameterError, read_parameters


def grid(tmp_path, **blocks):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({"runs": blocks}, sort_keys=False))
    return read_grid(file)


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
    with pytest.raises(ParameterError, match="is there twice"):
        grid(tmp_path, **{"10_trace": [{"model": ["a"]}, {"model": ["a"]}]})


def test_a_grid_with_wrong_parameters_is_refused_as_a_whole(tmp_path):
    with pytest.raises(ParameterError, match="(?s)corpus='none_such'.*colour"):
        grid(tmp_path, **{"00_datasets": {"corpus": ["none_such"]}, "10_trace": {"colour": ["red"]}})


@pytest.mark.parametrize("name", sorted(path.stem for path in paths.GRIDS.glob("*.yaml")))
def test_the_grids_in_the_repository_fit_the_notebooks(name):
    points = read_grid(paths.GRIDS / f"{name}.yaml")
    assert points
    pages = [point for point in points.values() if point.notebook == "90_paper"]
    assert len(pages) == 1 and pages[0].parameters["grid"] == name
    assert set(pages[0].reads) == set(points) - {pages[0].key}


def refuse(tmp_path, text):
    """Returns the lines of the error that a grid of this text is refused with."""
    file = tmp_path / "grid.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParameterError) as error:
        read_grid(file)
    return [line.removeprefix(f"{file}:") for line in str(error.value).splitlines()]


TRACES = "runs:\n  10_trace:\n    model: [smollm-a, smollm-b]\n    corpus: mfrc\n"


@pytest.mark.parametrize("text, problem", [
    ("10_trace: {}\n", "1: a grid is `runs:`, .*where 10_trace stands"), ("", "1: a grid is"),
    ("- a\n", "1: a grid is"),
    ("runs:\n", "1: a grid is"), ("runs: hello\n", "1: a grid is"), ("runs: [10_trace]\n", "1: a grid is"),
    ("run:\n  10_trace: {}\n", "1: a grid is `runs:`.*where run stands"),
    ("runs:\n  10_trace:\n\t  seed: 1\n", "3: .*indent by spaces"), ("runs: {a: [}\n", "1: "),
    ("runs:\n  10_trace: {seed: *none}\n", "2: found undefined alias"),
    (b"runs:\n  10_trace: {model: \xff}\n", "2: not UTF-8"),
    ("runs:\n  10_trase: {}\n", r"2: 10_trase is no notebook \(is 10_trace meant\?\)"),
    ("runs:\n  10_trace: hello\n", "2: 10_trace: 'hello' must be parameters"),
    ("runs:\n  10_trace: []\n", "2: .* runs nothing"),
    ("runs:\n  10_trace: [seed, 1]\n", "2: 10_trace: 'seed' must be.*\n2: 10_trace: 1 must be"),
    ("runs:\n  10_trace:\n    seed: 1\n    model: []\n", "4: model is an axis without values"),
    ("runs:\n  10_trace: {seed: 1}\n  20_steps: {}\n  10_trace: {seed: 2}\n",
     "4: 10_trace is there twice, first in line 2"),
    ("runs:\n  10_trace:\n    seed: 1\n    seed: 2\n", "4: seed is there twice, first in line 3"),
    ("runs:\n  10_trace:\n    documents: [{limit: 1, limit: 2}]\n", "3: limit is there twice"),
    ("x-a: &a {seed: 1}\nx-b: &b {limit: 2}\nruns:\n  10_trace: {<<: *a, <<: *b}\n", "4: << is there twice"),
    ("runs:\n  10_trace: {folder: there}\n", "2: folder cannot be given here"),
    ("runs:\n  10_trace: {documents: [{folder: a}, {folder: b}]}\n", "2: folder cannot be given here"),
    ("runs:\n  90_paper: {seed: 1, grid: laptop}\n", "2: grid cannot be given here: it is the file's name"),
    ("runs:\n  10_trace: {documents: [{reads: [a]}]}\n", "2: reads cannot be given here: it is a mapping of the block"),
    ("runs:\n  10_trace: {reads: [a]}\n", r"2: reads: \['a'\] must be a mapping"),
    ("runs:\n  00_datasets: {reads: {10_trace: []}}\n", "2: .* is no parameter of this notebook"),
    ("runs:\n  10_trace: {model: [a, a]}\n", "2: 10_trace/a-.* is there twice"),
    ("runs:\n  10_trace:\n  - {model: [a], seed: 1}\n  - {seed: [1], model: a}\n",
     "4: 10_trace/seed=1-.* is there twice"),
    ("runs:\n  10_trace:\n  - {model: a, shots: 10}\n  - {model: a}\n", "4: 10_trace/.* is there twice"),
    ("runs:\n  10_trace: {corpus: [mfrc], documents: [{corpus: boxes}]}\n",
     "2: corpus is never used, as all of documents"),
    ("runs:\n  10_trace: {limit: 3, documents: [{limit: 5}, {limit: 6}]}\n", "2: limit is never used"),
    ("runs:\n  10_trace: {seed: 1}\n20_steps: {seed: 1}\n", "3: 20_steps stands beside runs and is never read"),
    ("runs:\n  10_trace: {asked: [list, unary]}\n", r"2: asked='list' must be of type .*in a grid as \[\[\.\.\.\]\]"),
    ("runs:\n  10_trace: {label: no, model: no}\n",
     "2: label is no parameter.*\n2: model=False must be of type str .*quotation"),
    ("runs:\n  10_trace:\n    model: [%s]\n" % ("m" * 300), "3: m+-.* is too long a name .*30. bytes of at most 255"),
    ("runs:\n  10_trace:\n    model: [%s]\n" % ("\u00e4" * 130), "is too long a name .* bytes of at most 255"),
    (TRACES + "  21_demonstrations: {reads: {10_trase: []}}\n", r"5: .*no block of it \(is 10_trace meant\?\)"),
    ("runs:\n  21_demonstrations: {reads: {10_trace: []}}\n" + TRACES[6:], "2: .*its block stands behind, move it up"),
    (TRACES + "    reads: {10_trace: []}\n", "5: .* move it up"),
    (TRACES + "  21_demonstrations: {reads: {10_trace: [corpus]}}\n",
     "5: reads: 10_trace: corpus is no parameter of this"),
    (TRACES + "  20_steps:\n    family: [P]\n", r"6: 20_steps/P-\w+: reads=\[\] must have at least one value \(1"),
    (TRACES + "  20_steps:\n    reads: {}\n", r"6: 20_steps/\w+: reads=\[\] must have at least one value"),
    (TRACES + "  41_sets: {corpus: [mfrc, boxes], reads: {10_trace: [corpus]}}\n", r"^5: 41_sets/boxes-\w+: reads=.]"),
    (TRACES + "  41_sets: {corpus: boxes, reads: {10_trace: [corpus]}}\n", "^5: 41_sets reads no run .*in corpus$"),
    (TRACES + "  40_alignment: {reads: {10_trace: [corpsu]}}\n",
     r"corpsu is no parameter of 10_trace \(is corpus meant\?\)\n5: .*corpsu is no parameter of this notebook"),
    (TRACES + "  40_alignment: {reads: {10_trace: {modle: smollm-a}}}\n",
     r"5: .*modle is no parameter .*is model meant"),
    (TRACES + "  40_alignment: {reads: {10_trace: {model: smollm-c}}}\n",
     r"none has model='smollm-c' \(is smollm-. meant"),
    (TRACES + "  40_alignment: {corpus: [boxen], reads: {10_trace: [corpus]}}\n", "5: corpus='boxen' .*is boxes me"),
    (TRACES + "  40_alignment: {corpus: [semeval], reads: {10_trace: [corpus]}}\n", "none agrees in corpus"),
    (TRACES + "  40_alignment: {reads: {10_trace: [[corpus]]}}\n",
     "5: reads: 10_trace: .* must be names of parameters"),
    ("runs:\n  10_trace: {no: 1, ~: 2, 3: 4}\n", "2: 3 is no param.*\n2: False is no param.*\n2: None is no parameter"),
    ("runs:\n  no: {}\n  ~: {}\n", "2: False is no notebook.*\n3: None is no notebook"),
    ("runs:\n  10_trace: {? [a, b] : 1}\n",
     "2: found unhashable key"), ("runs: {}\n---\nruns: {}\n", "2: but found another"),
    (TRACES + "  40_alignment: {reads: {10_trace: }}\n", "5: reads: 10_trace: None must be names of parameters"),
])  # fmt: skip
def test_a_grid_that_is_not_what_it_says_is_refused_with_its_line(tmp_path, text, problem):
    assert re.search(problem, "\n".join(refuse(tmp_path, text)))


def test_all_problems_of_a_grid_are_told_at_once(tmp_path):
    text = """runs:
  10_trace:
  - {sed: 1, model: [a]}
  - {model: []}
  - {seed: -1, new_tokens: 0}
  20_stepps: {}
  21_demonstrations:
    reads: {10_trace: [], 11_trace: [], 22_label_order: []}
    folder: x
    seed: -1
  22_label_order: {}
"""
    lines = [int(line.partition(":")[0]) for line in refuse(tmp_path, text)]
    assert lines == [3, 4, 5, 5, 6, 8, 8, 9, 10, 11]  # 10_trace has runs, though none is right


def test_numbers_are_those_that_stand_there(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        "runs:\n  06_finetune:\n  - {rate: 1e-3, beta: 5e-05, steps: 1E2, seed: 010, alpha: +12,"
        " dropout: .5, label: '12'}\n"
        "  10_trace: {several: [0.00005, 2.5e-1], options: {a: 1e-3, b: 7, c: 0x10}}\n"
    )
    tuned, *traces = read_grid(file).values()
    assert tuned.parameters == {
        "rate": 0.001, "beta": 5e-5, "steps": 100, "seed": 10, "alpha": 12, "dropout": 0.5, "label": "12",
    }  # fmt: skip
    assert [each.parameters["several"] for each in traces] == [5e-5, 0.25]
    assert traces[0].parameters["options"] == {"a": 0.001, "b": 7, "c": "0x10"}


def test_equal_parameters_have_one_hash_and_a_run_that_is_there_keeps_its_folder(tmp_path):
    file, results = tmp_path / "grid.yaml", tmp_path / "results"
    file.write_text("runs:\n  10_trace: {model: [a], several: [1], options: {k: 1, j: 2}}\n")
    (before,) = read_grid(file, results).values()
    (results / before.key).mkdir(parents=True)
    (results / "10_trace" / f"x{before.name[-6:]}").mkdir()  # ends like the hash, but is none
    file.write_text("runs:\n  10_trace: {options: {j: 2.0, k: 1}, several: 1.0, documents: [{model: a}]}\n")
    (after,) = read_grid(file, results).values()
    assert after == before and json.dumps(after.parameters, sort_keys=True) == json.dumps(
        before.parameters, sort_keys=True
    )
    (pure,) = read_grid(file).values()
    assert pure.name != before.name and pure.name[-6:] == before.name[-6:]


def test_a_default_that_is_stated_is_the_same_run(tmp_path):
    """Whether it is stated beside or on an axis, which shows in the name of a run that is not there yet."""
    file = tmp_path / "grid.yaml"
    bare = "runs:\n  10_trace: {model: [a], shots: 3}\n"
    stated = bare.replace("shots: 3", "limit: 24.0, seed: 0, options: {}, shots: 3")
    axis = bare.replace("shots: 3", "shots: 3, reserve: [0], asked: [[list, unary]]")
    keys = []
    for text in (bare, stated, axis, bare.replace("3", "10"), bare.replace("3", "10").replace("[a]", "a")):
        file.write_text(text)
        (point,) = read_grid(file).values()
        keys.append(point.key)
    assert keys[0] == keys[1] != keys[3] and keys[3].startswith("10_trace/a-") and keys[4].startswith("10_trace/")
    assert re.fullmatch(rf"10_trace/a-reserve=0-list.unary-{keys[0][-6:]}", keys[2])
    assert len({key[-6:] for key in keys}) == 2  # shots: 10 is the default


@pytest.mark.parametrize("found", ["a", "limit=24-a"])
def test_a_run_named_before_defaults_were_left_out_keeps_its_folder(tmp_path, found):
    """Of names that hold the hash of all that the grid gave."""
    file, given = tmp_path / "grid.yaml", {"model": "a", "limit": 24, "shots": 3}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:6]
    file.write_text("runs:\n  10_trace: {model: [a], limit: 24, shots: 3}\n")
    (fresh,) = read_grid(file, tmp_path).values()
    (tmp_path / "10_trace" / f"{found}-{digest}").mkdir(parents=True)
    (point,) = read_grid(file, tmp_path).values()
    assert point.name == f"{found}-{digest}" != fresh.name
    (tmp_path / fresh.key).mkdir()
    assert list(read_grid(file, tmp_path)) == [fresh.key]


def test_a_copy_of_a_grid_writes_figures_of_its_own(tmp_path):
    """What `grid` is decides where 90_paper writes: no copied line may name another grid."""
    for name in ("laptop", "mine", "mine.v2"):
        (tmp_path / f"{name}.yaml").write_text((paths.GRIDS / "laptop.yaml").read_text())
        pages = [p for p in read_grid(tmp_path / f"{name}.yaml").values() if p.notebook == "90_paper"]
        assert [page.parameters["grid"] for page in pages] == [name]
    assert {each.name: each.default for each in read_parameters("90_paper")}["grid"] == ""  # by hand: figures of none


def test_a_grid_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(ParameterError, match=r"lapto.yaml is not there \(is laptop meant\?\); grids/ holds laptop"):
        read_grid(paths.GRIDS / "lapto.yaml")
