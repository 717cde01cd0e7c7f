"""Tables 2 and 5 as pictures, and Fig. 8: every number at its place, models told apart."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import alignment, drawing, published


def alignment_table(models=("small",)):
    rows = []
    for k, corpus in enumerate(("mfrc", "goemotions")):
        for model, method, value in [
            ("", "zeros", 8.0),
            ("", "noise_floor", 1.0),
            *[(model, "compare_to_none", 5.0 + 9 * k) for model in models],
            *[(model, "unary_breakdown", 3.0) for model in models],
        ]:
            for metric in ("nll", "l1", "f1"):
                mean = value / 10 if metric == "f1" else value
                rows.append((corpus, model, method, metric, mean, 0.9 * mean, 1.1 * mean, 190 + k))
    return pd.DataFrame(rows, columns=["corpus", "model", "method", "metric", "mean", "low", "high", "n"])


def inside(axis):
    """Returns whether all lines of an axis that have data coordinates lie within its limits."""
    (left, right), (low, high) = sorted(axis.get_xlim()), sorted(axis.get_ylim())
    for line in axis.lines:
        if line.get_transform() != axis.transData:
            continue  # axhline and axvline
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if not ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all():
            return False
    return True


@pytest.mark.parametrize("models", [("small",), ("small", "large")])
def test_alignment_scatter_draws_all_points(models):
    fig = alignment.scatter(alignment_table(models), published.alignment())
    assert len(fig.axes) == 2 * len(models)
    assert [axis.get_title() for axis in fig.axes[:2]] == ["MFRC, n = 190", "GoEmotions, n = 191"]
    for axis in fig.axes:
        assert inside(axis) and axis.get_yscale() == "log"
        assert len(axis.containers) == 3  # zeros and two methods with crosses; the floor is two lines
    hollow = [line for line in fig.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == len(published.alignment().query("corpus == 'mfrc' and metric == 'l1'"))
    (text,) = fig.legends
    assert "hollow: published, 8B" in [t.get_text() for t in text.get_texts()]
    assert fig.alt == "L1 against NLL of each method on mfrc, goemotions, n = 190-191; lines cross at the noise floor."


@pytest.mark.parametrize("models", [("small",), ("small", "large")])
def test_alignment_bars_draws_all_points(models):
    fig = alignment.bars(alignment_table(models), published.alignment())
    assert len(fig.axes) == 6  # two corpora, three metrics
    assert all(inside(axis) for axis in fig.axes)
    names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert names[-2:] == ["All zeros", "Noise floor"]
    assert ("Compare-to-none · large" in names) == (len(models) == 2)
    values = sorted({float(line.get_xdata()[0]) for line in fig.axes[1].lines if len(line.get_xdata()) == 1})
    assert fig.alt.startswith(
        "Dots with intervals: NLL, L1, Example-F1 of each method on mfrc, goemotions, n = 190-191;"
    )
    assert values[0] == 0.39 and values[-1] == 8.0  # the paper's best L1 on MFRC; our zeros


def test_alignment_figures_name_what_is_missing():
    with pytest.raises(ValueError, match="'high'"):
        alignment.scatter(alignment_table().drop(columns="high"), None)
    with pytest.raises(ValueError, match="no rows"):
        alignment.bars(alignment_table().iloc[:0], None)


def pairs(models=("small",), corpora=("mfrc", "goemotions", "hatexplain")):
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
    fig = alignment.outcomes_against_probabilities(pairs())
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
    rows = pairs(models=("small", "large"))
    rows = rows[~((rows["model"] == "large") & (rows["corpus"] == "mfrc"))]
    fig = alignment.outcomes_against_probabilities(rows)
    assert len(fig.axes) == 6
    assert [len(values) for axis in fig.axes for values in marks(axis).values()] == [3, 3] * 3 + [2, 2] * 3
    picture = drawing.save(fig, "figure_8", tmp_path)
    assert picture.path.stat().st_size > 5000
    assert picture.alt.startswith(
        "Pairwise breakdown, probabilities against outcomes, on mfrc, goemotions, hatexplain, n"
    )


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="needs both"):
        alignment.outcomes_against_probabilities(pairs().query("method != 'binary_breakdown'"))
    with pytest.raises(ValueError, match=r"lacks the columns \['low'\]"):
        alignment.outcomes_against_probabilities(pairs().drop(columns="low"))
