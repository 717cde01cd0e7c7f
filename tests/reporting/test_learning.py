"""Learning curves: a line a seed, and only what is known is drawn."""

import numpy as np
import pandas as pd
import pytest

from mlutils.reporting import learning


def table(**more):
    steps = np.arange(5)
    base = {"loss": 2.0 - steps / 4, "held_loss": [2.0, np.nan, 1.8, np.nan, 1.5], "reward": np.nan, "kl": np.nan}
    return pd.concat([pd.DataFrame({"seed": seed, "step": steps, **base, **more}) for seed in (0, 3)])


def lines(axis):
    return {
        (line.get_linestyle(), tuple(line.get_xdata()), tuple(np.round(line.get_ydata(), 3))) for line in axis.lines
    }


def test_losses_are_drawn_as_logged_and_at_their_steps():
    fig = learning.curves(table(), "sft on mfrc from m")
    (axis,) = fig.axes
    assert fig.alt == (
        "Learning curves of sft on mfrc from m, 2 seeds. Last values, mean over seeds: loss 1.000, held_loss 1.500"
    )
    assert ("-", (0, 1, 2, 3, 4), (2.0, 1.75, 1.5, 1.25, 1.0)) in lines(axis)
    assert (":", (0, 2, 4), (2.0, 1.8, 1.5)) in lines(axis)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["seed 0", "seed 3", "set aside"]


def test_a_reward_stands_beside_the_divergence_and_without_the_loss():
    fig = learning.curves(table(reward=[0, 0.1, 0.2, 0.3, 0.4], kl=[0, 1, 2, 3, 4]), "sft on mfrc from m")
    assert [axis.get_ylabel() for axis in fig.axes] == ["reward", "KL from the start, nats"]
    assert ("-", (0, 1, 2, 3, 4), (0.0, 0.1, 0.2, 0.3, 0.4)) in lines(fig.axes[0])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["seed 0", "seed 3"]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="nothing to draw"):
        learning.curves(table(loss=np.nan), "sft on mfrc from m")
    with pytest.raises(ValueError, match="9 seeds are too many"):
        learning.curves(pd.concat([table().assign(seed=seed) for seed in range(9)]), "sft")


def test_held_out_losses_have_a_panel_a_kind_and_a_line_a_size():
    rows = [["xs", 1e6, 0.9, 0.5], ["xs", 2e6, 0.8, 0.4], ["s", 1e6, 0.7, 0.3], ["s", 3e6, 0.6, 0.2]]
    frame = pd.DataFrame(rows, columns=["size", "tokens", "bits_all", "bits_list"])
    fig = learning.held_out(frame, {"bits_all": "all", "bits_list": "list"})
    assert [axis.get_title() for axis in fig.axes] == ["all", "list"]
    drawn = [
        (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in fig.axes[1].lines if len(line.get_xdata())
    ]
    assert drawn == [([1, 2], [0.5, 0.4]), ([1, 3], [0.3, 0.2])]
    assert fig.alt.endswith("in bits per answer token: xs 0.80, s 0.60")
