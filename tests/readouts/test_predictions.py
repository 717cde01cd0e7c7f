"""Predictions come back in the order that is asked for, of their own test set, and whole."""

import numpy as np
import pytest

from mlutils.readouts import predictions


def test_predictions_are_read_by_document(tmp_path):
    values = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    predictions.write(tmp_path, "dev-all", ["a", "b", "c"], ["x", "y"], {"encoder_soft": values})
    found = predictions.read(tmp_path, "dev-all", ["c", "a"], ["x", "y"])
    assert (found["encoder_soft"] == values[[2, 0]]).all()
    assert predictions.read(tmp_path, "all-paper", ["c"], ["x", "y"]) == {}
    with pytest.raises(ValueError, match="wanted"):
        predictions.read(tmp_path, "dev-all", ["a"], ["y", "x"])
    with pytest.raises(ValueError, match="lacks 1 documents, e.g. z"):
        predictions.read(tmp_path, "dev-all", ["a", "z"], ["x", "y"])
    file = tmp_path / "predictions-dev-all.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{file} cannot be read .*delete it and run 07_encoder in its folder again"):
        predictions.read(tmp_path, "dev-all", ["a"], ["x", "y"])
