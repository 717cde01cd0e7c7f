"""Before/after and the ladder: numbers at their places, words where there are none, and the page's sections."""

import numpy as np
import pandas as pd
import pytest

from mlutils.readouts import changes as readouts
from mlutils.reporting import changes, changes_tables, comparison

NAN = float("nan")


def row(quantity, mean, tuning="base", shots=10, seed=None, base="m", corpus="mfrc", n=40, **others):
    tuned = dict(tuned_on="", seed="", seeds=1) if tuning == "base" else dict(tuned_on=corpus, seed="0", seeds=1)
    if seed is not None:
        tuned |= {"seed": seed, "seeds": 3 if seed == "all" else 1}
    low, high = (NAN, NAN) if np.isnan(mean) else (mean - 0.05, mean + 0.1)
    made = dict(
        corpus=corpus,
        documents="paper",
        base=base,
        tuning=tuning,
        shots=shots,
        quantity=quantity,
        n=n,
        different=9.0 if n else NAN,
    )
    return made | tuned | dict(mean=mean, low=low, high=high) | others


def table(*rows):
    return pd.DataFrame(rows, columns=readouts.COLUMNS)


@pytest.fixture
def levels():
    made = []
    for quantity in ("top1_first", "entropy_first", "second_next", "f1 hard_predictions", "nll compare_to_none"):
        made += [row(quantity, 0.3), row(quantity, 0.2, shots=0), row(quantity, 0.5, "soft", seed="0")]
        made += [row(quantity, value, "sft", seed=seed) for seed, value in zip("012", (0.6, 0.7, 0.8), strict=True)]
        made += [row(quantity, 0.7, "sft", seed="all"), row(quantity, 0.4, "sft", shots=0, seed="0")]
    made += [row("alphabetical", NAN, n=0), row("alphabetical", NAN, "sft", seed="all", n=0)]
    made += [row("top1_later", 0.9, n=3), row("top1_later", NAN, "sft", seed="all", n=0)]
    return table(*made)


def panel(fig, title):
    (axis,) = [axis for axis in fig.axes if axis.get_title().replace("\n", " ").startswith(title)]
    return axis


def marks(axis):
    """Returns x, y, fill of the marks with an interval."""
    lines = [container[0] for container in axis.containers]
    return {(round(line.get_xdata()[0], 3), round(line.get_ydata()[0]), line.get_fillstyle()) for line in lines}


def test_base_is_hollow_tunings_are_rows_and_seeds_are_faint(levels):
    fig = changes.before_after(levels)
    first = (
        "m before and after tuning on mfrc (paper), a panel a quantity. Largest probability, first step: m, Base, 10"
    )
    assert fig.alt.startswith(first) and "m, SFT, 10 shots 0.70" in fig.alt
    axis = panel(fig, "Largest probability, first step")
    assert axis.get_title().endswith("n = 40")
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["Base", "SFT", "Soft targets"]
    assert marks(axis) == {
        (0.3, 0, "none"), (0.2, 0, "none"), (0.7, 1, "full"), (0.4, 1, "full"), (0.5, 2, "full")
    }  # fmt: skip
    (seeds,) = [line for line in axis.lines if line.get_marker() == "." and len(line.get_xdata())]
    assert seeds.get_xdata().tolist() == [0.6, 0.7, 0.8]
    assert sorted(line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--") == [0.2, 0.3]
    shares = panel(fig, "Second said next, %")
    assert (70.0, 1, "full") in marks(shares)
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert legend == ["0 demonstrations", "10 demonstrations", "base model", "one seed"]


def test_what_no_answer_shows_is_said(levels):
    fig = changes.before_after(levels)
    axis = panel(fig, "Alphabetical order, %")
    assert [text.get_text() for text in axis.texts] == ["none", "none"] and not axis.containers
    assert not len(axis.get_xticks()) and axis.get_title().endswith("n = 0")
    later = panel(fig, "Largest probability, later steps")
    assert [text.get_text() for text in later.texts] == ["none"] and later.get_title().endswith("n = 0-3")
    assert not [axis for axis in fig.axes if axis.get_title().startswith("NLL, unary")]  # not asked: no panel


def test_one_figure_is_of_one_base_model(levels):
    with pytest.raises(ValueError, match="one corpus, sample and base model"):
        changes.before_after(pd.concat([levels, levels.assign(base="other")]))


def test_the_ladder_joins_models_of_one_kind_only(levels):
    parts = [levels[levels["shots"] == 10].assign(base=base) for base in ("xs", "s", "big", "unknown")]
    fig = changes.ladder(pd.concat(parts), {"xs": 150_000, "s": 1_000_000, "big": 135_000_000}, ["xs", "s"])
    axis = panel(fig, "Entropy, first step")
    assert axis.get_xscale() == "log"
    joined = [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"]
    assert [line.get_ydata().tolist() for line in joined] == [[0.3, 0.3], [0.7, 0.7], [0.5, 0.5]]
    assert [len(container[0].get_xdata()) for container in axis.containers] == [3] * 3  # tunings; models of known size
    fig.canvas.draw()
    ticks = [tick.get_text() for axis in fig.axes for tick in axis.get_xticklabels() if tick.get_text()]
    assert set(ticks) == {"0.15", "1", "135"}
    with pytest.raises(ValueError, match="no model of the table has a size"):
        changes.ladder(levels, {}, ["m"])


def test_fig_12_pairs_have_most_of_the_shared_demonstrations(levels):
    paired = changes_tables.pair_up(levels, {})
    assert list(dict.fromkeys(zip(paired["base"], paired["tuned"], strict=True))) == [
        ("m, 10 demonstrations", "m, SFT, 10 demonstrations"),
        ("m, 10 demonstrations", "m, Soft targets, 10 demonstrations"),
    ]
    paired = paired.set_index(["tuned", "metric"])
    assert paired.loc[("m, SFT, 10 demonstrations", "f1"), "mean_tuned"] == 0.7
    assert paired.loc[("m, SFT, 10 demonstrations", "nll"), "method"] == "compare_to_none"
    alone = table(row("f1 hard_predictions", 0.3), row("f1 hard_predictions", 0.3, "sft", shots=0))
    assert changes_tables.pair_up(alone, {}).empty and changes_tables.pair_up(alone.iloc[:0], {}).empty


def test_tables_are_in_percent_and_mark_what_is_sure(levels):
    few, ten = changes_tables.by_tuning(levels, {})
    assert few[0] == "m, on MFRC (paper), 0 demonstrations" and ten[0] == "m, on MFRC (paper), 10 demonstrations"
    assert list(few[1]) == ["Quantity", "Base", "SFT (seed 0)", "n", "different"]
    assert list(ten[1]) == ["Quantity", "Base", "SFT (3 seeds)", "Soft targets (seed 0)", "n", "different"]
    rows = ten[1].set_index("Quantity").T.to_dict("list")
    assert rows["Second said next, %"] == ["30.0 [25.0, 40.0]", "70.0 [65.0, 80.0]", "50.0 [45.0, 60.0]", "40", "9.0"]
    assert rows["Alphabetical order, %"] == ["–", "–", "–", "0", "–"]
    few = levels.assign(different=levels["different"].where(levels["tuning"] != "sft", 1.25))
    shown = dict(changes_tables.by_tuning(few, {}))["m, on MFRC (paper), 10 demonstrations"].set_index("Quantity")
    assert shown.loc["Second said next, %", "different"] == "1.2 to 9.0"
    assert rows["Largest probability, later steps"] == ["0.90 [0.85, 1.00] (3)", "–", "–", "", "9.0"]  # n differs
    signed = table(row("top1_first", 0.2, "sft"), row("labels", 0.01, "sft"), row("labels", 0.5, "soft", n=9))
    ((caption, shown),) = changes_tables.by_tuning(signed, {}, signed=True)
    assert caption == "m, tuned minus base, on MFRC (paper), 10 demonstrations"
    assert shown["SFT (seed 0)"].tolist() == ["+0.20* [0.15, 0.30]", "+0.01 [-0.04, 0.11] (40)"]
    assert shown["n"].tolist() == ["40", ""]
    differ = table(row("labels", 0.01, "sft"), row("labels", 0.5, "soft", n=9))
    ((_, shown),) = changes_tables.by_tuning(differ, {})
    assert "n" not in shown
    assert not list(changes_tables.by_tuning(levels.iloc[:0], {}))


def test_models_stand_in_the_order_of_their_size(levels):
    sizes = {"xs": 150_000, "s": 1_000_000, "m": 4_000_000}
    several = pd.concat([levels.assign(base=base) for base in ("a", "m", "s", "xs")])
    captions = [caption for caption, _ in changes_tables.by_tuning(several, sizes)]
    assert [caption.partition(",")[0] for caption in captions[::2]] == ["xs", "s", "m", "a"]
    assert [key[2] for key, _ in changes_tables.tuned_groups(several, sizes)] == ["xs", "s", "m", "a"]
    pairs = changes_tables.pair_up(several, sizes)
    assert [base.partition(",")[0] for base in pairs["base"].unique()] == ["xs", "s", "m", "a"]
    alt = changes.ladder(several[several["shots"] == 10], sizes, ["xs", "s", "m"]).alt
    assert alt.index("xs, Base") < alt.index("; s, Base") < alt.index("; m, Base") and " a, " not in alt


def test_tunings_are_written_in_words():
    assert changes_tables.tuning_title("sft+rl_f1", "mfrc", "mfrc") == "SFT, then RL (F1)"
    assert changes_tables.tuning_title("soft", "semeval", "mfrc") == "Soft targets on SemEval"
    assert (
        changes_tables.tuning_title("sft_icl+soft_icl", "mfrc", "mfrc")
        == "SFT in context, then Soft targets in context"
    )
    assert changes_tables.tuning_title("sft_long", "mfrc", "mfrc") == "sft_long"
    assert changes.file_name("fig2", "a/b 8B", "test, all") == "fig2-a_b_8B-test_all"


def test_published_sft_rows_stand_beside_ours(levels):
    beside = changes_tables.beside_published(levels)
    assert beside["Row"].tolist() == ["SFT outputs"] * 3 + ["SFT max-over-generations"]
    assert beside.iloc[0]["NLL"] == "10.45" and beside.iloc[0]["Model"] == "published"
    assert beside.iloc[1]["Example-F1"] == "0.70 [0.65, 0.80] (40)"
    assert "m+sft-mfrc, 10 shots (paper" in beside.iloc[1]["Model"]
    assert changes_tables.beside_published(levels.assign(corpus="vignettes")).empty


def test_sft_rows_of_alignment_are_drawn_under_their_base_model():
    names = ["m", "m+sft-mfrc, 0 shots", "m+sft-mfrc, 10 shots", "m+sft_icl-mfrc, 10 shots", None]
    methods = ["hard_predictions", "sft_outputs", "sft_outputs", "sft_outputs", "zeros"]
    frame = pd.DataFrame({"corpus": "mfrc", "documents": "paper", "model": names, "method": methods, "mean": range(5)})
    drawn = comparison.for_figures(frame)
    assert drawn["model"].tolist() == ["m", "", "m"] and drawn["mean"].tolist() == [0, 4, 2]
    plain = comparison.for_figures(frame.iloc[[0, 4]])
    assert plain["model"].tolist() == ["m", ""]


def readouts_of_two_corpora():
    other = {"corpus": "goemotions", "tuned_on": ""}
    return table(
        row("nll unary_breakdown", 4.0, low=3.0, high=5.0),
        row("nll unary_breakdown", 6.0, low=5.0, high=8.0, **other),
        row("nll unary_breakdown", 3.0, "sft", low=2.0, high=4.0, tuned_on=""),
        row("nll unary_breakdown", 5.0, "sft", low=4.0, high=6.0, **other),
        row("f1 unary_breakdown", 0.4, low=0.3, high=0.5),
        row("f1 unary_breakdown", 0.6, "sft", low=0.5, high=0.7, tuned_on=""),
        row("f1 hard_predictions", 0.9, "sft", tuned_on=""),  # the base model has none
        row("f1 unary_breakdown", 0.1, "sft", documents="all", tuned_on=""),  # nor one on this sample
    )


def test_means_are_over_the_corpora_that_both_have():
    paired = changes_tables.pair_up(readouts_of_two_corpora(), {}).set_index("metric")
    assert paired["method"].tolist() == ["unary_breakdown"] * 2
    assert paired["corpora"].to_dict() == {"nll": 2, "f1": 1}
    nll = paired.loc["nll"]
    assert (nll["mean_base"], nll["mean_tuned"]) == (5.0, 4.0)
    # Arms of two corpora in quadrature, over their number.
    assert nll["low_base"] == pytest.approx(5 - np.sqrt(2) / 2) and nll["high_base"] == pytest.approx(
        5 + np.sqrt(5) / 2
    )
    assert paired.loc["f1", "low_tuned"] == pytest.approx(0.5)


def test_every_number_is_at_its_place():
    fig = changes.base_against_tuned(changes_tables.pair_up(readouts_of_two_corpora(), {}))
    left, right = fig.axes
    pair = "m, 10 demonstrations against m, SFT, 10 demonstrations"
    assert fig.alt.endswith(f"hollow: base model, full: tuned. Pairs: {pair}.")
    assert left.get_title(loc="left") == f"{pair}, 2 corpora"
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["Unary breakdown"]
    assert left.get_xscale() == "log" and "higher is better" in right.get_xlabel()
    drawn = [container[0].get_xdata()[0] for axis in fig.axes for container in axis.containers]
    assert drawn == pytest.approx([5.0, 4.0, 0.4, 0.6])
