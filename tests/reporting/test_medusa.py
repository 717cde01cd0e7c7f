"""Fig. 16: a column a decoding head, and words where a head reads nothing."""

import numpy as np
import pandas as pd
import pytest

from mlutils import reporting
from tests.reporting.test_steps import halves, rows, texts, ticks


def test_fig_16_has_a_column_a_head_and_says_what_a_head_cannot_read():
    values = np.linspace(0.4, 0.9, 12)
    heads = [rows("semeval", "m", step, last, values).assign(head=0) for step in (1, 2) for last in (True, False)]
    heads += [rows("semeval", "m", 2, last, values / 2).assign(head=1) for last in (True, False)]
    fig = reporting.medusa.largest(pd.concat(heads))
    zero, one = fig.axes
    assert fig.alt.count("head 0") == 4 and "m, semeval, head 1, r = 2, last: 0.33 (n = 12)" in fig.alt
    assert [axis.get_title(loc="left") for axis in fig.axes] == ["head 0\nSemEval", "head 1\nSemEval"]
    assert ticks(one) == ["r = 1 0 / 0 (0.0 / 0.0)", "r = 2 12 / 12 (4.0 / 4.0)"] and texts(one) == [
        "no step 1 that this head reads"
    ]
    assert [half[2:] for half in halves(one)] == [pytest.approx((0.2, 0.45))] * 2
    assert len(halves(zero)) == 4 and texts(zero) == []
    two = pd.concat([*heads, *(each.assign(model="n") for each in heads)])
    assert [axis.get_title(loc="left") for axis in reporting.medusa.largest(two).axes[::2]] == [
        "head 0\nSemEval, m",
        "SemEval, n",
    ]
