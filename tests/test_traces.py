"""The schema's columns of lists, read as arrays."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mlutils.files import InUse
from mlutils.traces import matrix
from mlutils.writer import Writer

SETTINGS = {"labels": ["joy"], "single_label": False}
HOLD = """
import sys, time
from mlutils.writer import Writer
writer = Writer(sys.argv[1], {"labels": ["joy"], "single_label": False})
writer.add("list", 0, {"failures": [{"document": "d", "view": "list", "error": "none"}]})
print("holds", flush=True)
if len(sys.argv) > 2:
    writer.finish()
    print("finished", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("finishes", [False, True])
def test_a_trace_folder_has_one_writer_until_it_finishes_or_dies(tmp_path, finishes):
    command = [sys.executable, "-c", HOLD, tmp_path, *["finish"] * finishes]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "holds\n"
    if finishes:
        assert other.stdout.readline() == "finished\n"
    else:
        unfinished = tmp_path / "parts" / ".writing-x"
        unfinished.mkdir()
        with pytest.raises(
            InUse, match=f"written by process {other.pid} on .*, since .* UTC: wait until it has finished"
        ):
            Writer(tmp_path, SETTINGS)
        assert unfinished.exists(), "a part that the other one writes was removed"
        other.kill()
        other.wait()
    assert Writer(tmp_path, SETTINGS).done("list") == {0}
    other.kill()
    other.wait()
    other.stdout.close()


def test_rows_of_all_parts_are_numbered_through(tmp_path):
    writer = Writer(tmp_path, SETTINGS)
    for number in range(2):
        writer.add("list", number, {"failures": [{"document": f"d{number}", "view": "list", "error": "none"}]})
    assert writer.failures().index.tolist() == [0, 1]
    writer.finish()
    assert pd.read_parquet(tmp_path / "failures.parquet").index.tolist() == [0, 1]


def test_a_column_of_lists_is_a_matrix(tmp_path):
    table = pd.DataFrame({"logits": [[1, 2.5], [np.nan, -3]], "goes_on": [0.25, 0.5]})
    table.to_parquet(tmp_path / "table.parquet")
    for stored in (table, pd.read_parquet(tmp_path / "table.parquet")):  # lists come back as arrays
        read = matrix(stored["logits"], 2)
        assert read.dtype == float and np.array_equal(read, [[1, 2.5], [np.nan, -3]], equal_nan=True)
        assert np.array_equal(matrix(stored["goes_on"], 1), [[0.25], [0.5]])
    assert matrix(table["logits"].iloc[:0], 2).shape == (0, 2)
    with pytest.raises(ValueError, match="reshape"):
        matrix(table["logits"], 3)
