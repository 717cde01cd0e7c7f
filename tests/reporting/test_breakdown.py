"""Fig. 8: every number at its place, both variants told apart, models in rows."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import breakdown, figures


def table(models=("small",), corpora=("mfrc", "goemotions", "hatexplain")):
    rows = [
        (corpus, model, method, metric, mean, 0.8 * mean, 1.1 * mean, 190 + k)
        for k, corpus in enumerate(corpora)
        for j, model in enumerate(models)
        for method, base in (("binary_breakdown", 2.0), ("binary_breakdown_outcomes", 3.0), ("zeros", 7.0))
        for metric, unit in (("nll", 2.0), ("l1", 1.0), ("f1", 0.1))
        for mean in [(base + k + j) * unit]
    ]
    return pd.DataFrame(rows, columns=["corpus", "model", "method", "metric", "mean", "low", "high", "n"])


def marks(axis):
    """Returns the points of each variant, label -> (x, mean, low, high) a corpus."""
    found = {}
    for container in axis.containers:
        line, _, (bars,) = container
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found[container.get_label()] = np.column_stack([line.get_xdata(), line.get_ydata(), ends])
    return found


def test_every_number_is_at_its_place():
    fig = breakdown.outcomes_against_probabilities(table())
    assert [axis.get_title().split(" (")[0] for axis in fig.axes] == ["NLL, nats", "L1", "Example-F1"]
    for axis, unit in zip(fig.axes, (2.0, 1.0, 0.1), strict=True):
        found = marks(axis)
        assert set(found) == {"probabilities", "outcomes (rounded to 0 and 1)"}
        for base, values in zip((2, 3), found.values(), strict=True):
            mean = (base + np.arange(3)) * unit
            assert values[:, 1:] == pytest.approx(np.column_stack([mean, 0.8 * mean, 1.1 * mean]))
            assert np.abs(values[:, 0] - np.arange(3)).max() < 0.5
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == [
        "MFRC\nn = 190",
        "GoEmotions\nn = 191",
        "HateXplain\nn = 192",
    ]
    assert fig.axes[0].get_yscale() == "log" and fig.axes[1].get_ylim()[0] == 0


def test_models_are_rows_and_a_missing_corpus_leaves_a_gap(tmp_path):
    rows = table(models=("small", "large"))
    rows = rows[~((rows["model"] == "large") & (rows["corpus"] == "mfrc"))]
    fig = breakdown.outcomes_against_probabilities(rows)
    assert len(fig.axes) == 6
    assert [len(values) for axis in fig.axes for values in marks(axis).values()] == [3, 3] * 3 + [2, 2] * 3
    picture = figures.save(fig, "figure_8", "Two marks a corpus.", tmp_path)
    assert picture.path.stat().st_size > 5000


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="needs both"):
        breakdown.outcomes_against_probabilities(table().query("method != 'binary_breakdown'"))
    with pytest.raises(ValueError, match=r"lacks the columns \['low'\]"):
        breakdown.outcomes_against_probabilities(table().drop(columns="low"))
