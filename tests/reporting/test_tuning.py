"""Fig. 12: base and tuned rows paired, and every number at its place."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import tuning

COLUMNS = ["corpus", "documents", "model", "method", "metric", "mean", "low", "high"]


def table():
    rows = [
        ["mfrc", "paper", "base", "unary_breakdown", "nll", 4.0, 3.0, 5.0],
        ["goemotions", "all", "base", "unary_breakdown", "nll", 6.0, 5.0, 8.0],
        ["mfrc", "paper", "tuned", "unary_breakdown", "nll", 3.0, 2.0, 4.0],
        ["goemotions", "all", "tuned", "unary_breakdown", "nll", 5.0, 4.0, 6.0],
        ["mfrc", "paper", "base", "unary_breakdown", "f1", 0.4, 0.3, 0.5],
        ["mfrc", "paper", "tuned", "unary_breakdown", "f1", 0.6, 0.5, 0.7],
        ["mfrc", "paper", "tuned", "hard_predictions", "f1", 0.9, 0.8, 1.0],  # the base model has none
        ["mfrc", "paper", "", "zeros", "f1", 0.1, 0.1, 0.1],
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_means_are_over_the_corpora_that_both_have():
    paired = tuning.pair_up(table(), [("base", "tuned")]).set_index("metric")
    assert paired["method"].tolist() == ["unary_breakdown"] * 2 and paired["corpora"].tolist() == [2, 1]
    nll = paired.loc["nll"]
    assert (nll["mean_base"], nll["mean_tuned"]) == (5.0, 4.0)
    # Arms of two corpora in quadrature, over their number.
    assert nll["low_base"] == pytest.approx(5 - np.sqrt(2) / 2) and nll["high_base"] == pytest.approx(
        5 + np.sqrt(5) / 2
    )
    assert paired.loc["f1", "low_tuned"] == pytest.approx(0.5)


def test_models_that_were_not_traced_are_named():
    with pytest.raises(ValueError, match="model 'other' has no rows; traced are base, tuned"):
        tuning.pair_up(table(), [("base", "other")])
    apart = table().assign(documents=["a", "a", "b", "b", "a", "b", "b", "a"])
    with pytest.raises(ValueError, match="share no corpus"):
        tuning.pair_up(apart, [("base", "tuned")])


def test_every_number_is_at_its_place():
    fig = tuning.base_against_tuned(tuning.pair_up(table(), [("base", "tuned")]))
    left, right = fig.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["Unary breakdown"]
    assert left.get_xscale() == "log" and "higher is better" in right.get_xlabel()
    drawn = [container[0].get_xdata()[0] for axis in fig.axes for container in axis.containers]
    assert drawn == pytest.approx([5.0, 4.0, 0.4, 0.6])
