"""Table 1 as a picture: our bars with intervals, the published shares beside."""

import pandas as pd
import pytest

from mlutils.reporting import corpora, published


def test_label_counts_beside_published():
    table = pd.DataFrame(
        {"corpus": "mfrc", "labels": ["0", "1", "2", "3+"], "percent": [79.2, 17.8, 2.7, 0.3], "n": 774}
    )
    table = table.assign(low=table["percent"] - 0.2, high=table["percent"] + 0.5)
    fig = corpora.label_counts(table, published.datasets())
    (axis,) = fig.axes
    assert fig.alt.startswith("Bars: gold labels a document in mfrc, n = 774. 79.2 % have 0, 17.8 % have 1,")
    assert fig.alt.endswith("0.3 % have 3+.")
    assert [bar.get_height() for bar in axis.patches] == [79.2, 17.8, 2.7, 0.3]
    assert [float(line.get_ydata()[0]) for line in axis.lines] == [78, 18, 3, 1]
    (bars,) = axis.containers[-1][2]
    assert bars.get_segments()[1][:, 1] == pytest.approx([17.6, 18.3])
    assert [t.get_text() for t in axis.texts] == ["78", "18", "3", "<1"]
