"""The schema's columns of lists, read as arrays."""

import numpy as np
import pandas as pd
import pytest

from mlutils.traces import matrix


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
