"""Released traces are asked again: the same model agrees, a changed number is found, what is not at hand is named."""

import pandas as pd
import pytest

from mlutils import files, paths, releases
from mlutils.parameters import complete, read_parameters
from mlutils.tracing import verification, views
from mlutils.tracing.prompting import prepare

GIVEN = {"model": "random-llama", "limit": 6, "shots": 2, "asked": ["list", "unary", "pairwise", "ratio", "order"]}


@pytest.fixture
def released(tmp_path, monkeypatch, llama):
    """A released trace of six vignettes."""
    monkeypatch.setattr(paths, "RELEASES", tmp_path / "runs")
    given = complete(read_parameters("10_trace"), GIVEN)
    settings = {"options": {}, "seed": 0, "family": "P", "shots": 2}
    views.write_trace(tmp_path / "made", llama, prepare(given), given["asked"], **settings)
    record = {"notebook": "10_trace", "parameters": given, "needs": [], "produced": []}
    files.write_json(tmp_path / "made" / "run.json", record)
    target = tmp_path / "runs" / "g" / "10_trace" / "x"
    releases.pack(tmp_path / "made", target)
    return target


def change(target, table, edit):
    """Changes a table of a released trace, and its checksum with it."""
    file = target / f"{table}.parquet"
    edit(pd.read_parquet(file)).to_parquet(file)
    record = files.read_json(target / "run.json", OSError, "")
    record["release"]["files"][file.name] = files.checksum(file)
    files.write_json(target / "run.json", record)


def test_the_same_model_agrees_and_the_trace_is_no_older_than_the_code(released):
    assert releases.is_older(releases.read_record(released))  # no code is recorded
    (row,) = verification.verify("g", 2).to_dict("records")  # `ratio` asks them in an order of its own
    assert row["state"] == "agrees" and row["documents"] == 2
    (row,) = verification.verify("g", 6).to_dict("records")
    assert row["state"] == "agrees" and row["documents"] == 6 and row["apart"] < 1e-4
    record = releases.read_record(released)
    assert record["release"]["verified"]["documents"] == 6 and not releases.is_older(record)
    releases.pack(released.parents[3] / "made", released)
    assert releases.read_record(released) == record  # released again, nothing has changed
    record["release"]["verified"]["code"] = "of yesterday"
    assert releases.is_older(record)


@pytest.mark.parametrize("table", ["questions", "steps"])
def test_one_logit_that_is_changed_is_found_where_its_document_is_drawn(released, table):
    def edit(frame):
        assert len(frame), table
        frame["logits"] = [[row[0] + 0.01 * (i == 0), *row[1:]] for i, row in enumerate(frame["logits"])]
        return frame

    if table == "steps" and pd.read_parquet(released / "steps.parquet").empty:
        pytest.skip("this random model begins no label")
    change(released, table, edit)
    (row,) = verification.verify("g", 6).to_dict("records")
    assert row["state"] == "DIFFERS" and row["apart"] == pytest.approx(0.01, rel=0.05)


def test_another_answer_is_found(released):
    change(released, "answers", lambda frame: frame.assign(status=["ok", *frame["status"][1:]]))
    (row,) = verification.verify("g", 6).to_dict("records")
    assert row["state"] == "DIFFERS" and row["answers that differ"] == 1
    assert releases.is_older(releases.read_record(released))


def test_what_is_not_at_hand_is_named(released):
    record = files.read_json(released / "run.json", OSError, "")
    record["parameters"]["model"] = "random-llama+sft-vignettes"
    files.write_json(released / "run.json", record)
    (row,) = verification.verify("g", 6).to_dict("records")
    assert row["state"].startswith("not at hand: ") and "sft-vignettes" in row["state"]
    record["parameters"] |= {"model": "random-llama", "seed": 1}
    files.write_json(released / "run.json", record)
    (row,) = verification.verify("g", 6).to_dict("records")
    assert row["state"].startswith("other d")
