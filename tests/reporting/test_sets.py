"""Expected numbers of labels as a picture."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import sets


def test_every_document_has_its_point_and_its_bounds():
    table = pd.DataFrame({"chosen": [0.0, 0.0, 1.0], "low": [1.0, 1.2, 1.5], "high": [1.4, 1.2, 2.5]})
    fig = sets.expected_sizes(table, "mfrc")
    (axis,) = fig.axes
    line, _, (bars,) = axis.containers[0]
    assert line.get_ydata() == pytest.approx([1.2, 1.2, 2.0])
    assert np.array([segment[:, 1] for segment in bars.get_segments()]) == pytest.approx(
        table[["low", "high"]].to_numpy()
    )
    assert line.get_xdata()[0] != line.get_xdata()[1] and abs(line.get_xdata()[0]) < 0.2
    assert axis.get_title() == "n = 3"
    assert fig.alt.endswith("on mfrc, n = 3: 1.47 against 0.33 on average, rank correlation 1.00.")
    with pytest.raises(ValueError, match="no rows"):
        sets.expected_sizes(table.iloc[:0], "mfrc")
