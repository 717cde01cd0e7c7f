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
    fig = learning.curves(table())
    (axis,) = fig.axes
    assert ("-", (0, 1, 2, 3, 4), (2.0, 1.75, 1.5, 1.25, 1.0)) in lines(axis)
    assert (":", (0, 2, 4), (2.0, 1.8, 1.5)) in lines(axis)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["seed 0", "seed 3", "set aside"]


def test_a_reward_stands_beside_the_divergence_and_without_the_loss():
    fig = learning.curves(table(reward=[0, 0.1, 0.2, 0.3, 0.4], kl=[0, 1, 2, 3, 4]))
    assert [axis.get_ylabel() for axis in fig.axes] == ["reward", "KL from the start, nats"]
    assert ("-", (0, 1, 2, 3, 4), (0.0, 0.1, 0.2, 0.3, 0.4)) in lines(fig.axes[0])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["seed 0", "seed 3"]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="nothing to draw"):
        learning.curves(table(loss=np.nan))
    with pytest.raises(ValueError, match="9 seeds are too many"):
        learning.curves(pd.concat([table().assign(seed=seed) for seed in range(9)]))
