"""Fig. 6: every share at its place."""

import pandas as pd
import pytest

from mlutils.reporting.demonstrations import several_by_ratio

COLUMNS = ["corpus", "model", "ratio", "share", "low", "high", "n"]


def test_every_share_is_at_its_place():
    rows = [[corpus, "m", ratio, ratio / 2, 0, 1, 20] for corpus in ("mfrc", "semeval") for ratio in (1.0, 0.0, 0.5)]
    fig = several_by_ratio(pd.DataFrame(rows, columns=COLUMNS))
    assert [axis.get_title() for axis in fig.axes] == ["MFRC, n = 20", "SemEval, n = 20"]
    for axis in fig.axes:
        (line, _, (bars,)) = axis.containers[0]
        assert line.get_xdata().tolist() == [0, 50, 100] and line.get_ydata().tolist() == [0, 25, 50]
        assert bars.get_segments()[1][:, 1].tolist() == [0, 100]
    with pytest.raises(ValueError, match="no rows"):
        several_by_ratio(pd.DataFrame([], columns=COLUMNS))
    many = pd.DataFrame([["mfrc", f"m{i}", 0, 0, 0, 0, 9] for i in range(7)], columns=COLUMNS)
    with pytest.raises(ValueError, match="7 models are too many"):
        several_by_ratio(many)
