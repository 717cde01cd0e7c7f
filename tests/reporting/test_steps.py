"""Fig. 2, 3, 4, 5, 9, 10, 11: numbers at their places, and words where there is nothing to draw."""

import numpy as np
import pandas as pd
import pytest

from mlutils import reporting
from mlutils.readouts import claims, steps
from tests.readouts.test_steps import write

NAN = float("nan")


def rows(corpus, model, step, last, values, second=0.1, next_said=0.2):
    return pd.DataFrame(
        {
            "model": model,
            "corpus": corpus,
            "document": [f"{corpus}{i}" for i in range(len(values))],
            "step": step,
            "last": last,
            "answer": [i % 4 for i in range(len(values))],
            "first": values,
            "second": second,
            "entropy": 1.0 + np.asarray(values),
            "top1": "joy",
            "next_label": None if last else "fear",
            "next_said": NAN if last else next_said,
            "second_next": NAN if last else 0.3,
            "second_is_next": NAN if last else [i % 2 for i in range(len(values))],
        }
    )


@pytest.fixture
def table():
    """SemEval has both groups at r = 1, two last steps at r = 2; MFRC has last steps only."""
    spread = np.linspace(0.4, 0.9, 12)
    parts = [rows("semeval", "m", 1, True, spread), rows("semeval", "m", 1, False, spread / 2)]
    parts += [rows("semeval", "m", 2, True, [0.7, 0.8]), rows("mfrc", "m", 1, True, spread)]
    return pd.concat(parts, ignore_index=True)


def texts(axis):
    return [text.get_text().replace("\n", " ") for text in axis.texts if text.get_text()]


def ticks(axis):
    return [tick.get_text().replace("\n", " ") for tick in axis.get_xticklabels()]


def halves(axis):
    """Returns left, right, low, high of the violins of an axis."""
    boxes = [shape.get_paths()[0].get_extents() for shape in axis.collections]
    return [(box.x0, box.x1, box.y0, box.y1) for box in boxes]


def test_fig_2_has_last_left_intermediate_right_numbers_under_each_and_few_steps_as_dots(table):
    semeval, mfrc = reporting.steps.largest(table).axes
    assert semeval.get_title(loc="left") == "SemEval" and mfrc.get_title(loc="left") == "MFRC"
    assert ticks(semeval) == ["r = 1 12 / 12 (4.0 / 4.0)", "r = 2 2 / 0 (2.0 / 0.0)"]
    assert ticks(mfrc) == ["r = 1 12 / 0 (4.0 / 0.0)", "r = 2 0 / 0 (0.0 / 0.0)"]
    (last, going) = sorted(halves(semeval))
    assert (
        last[1] <= 0 <= going[0] and last[2:] == pytest.approx((0.4, 0.9)) and going[2:] == pytest.approx((0.2, 0.45))
    )
    assert [line.get_ydata().tolist() for line in semeval.lines if line.get_marker() == "o"] == [[0.7, 0.8]]
    assert texts(semeval) == ["no intermediate step"]
    assert texts(mfrc) == ["no intermediate step", "no answer has a step 2"] and len(halves(mfrc)) == 1
    medians = "Medians: m, semeval, r = 1, last: 0.65 (n = 12); m, semeval, r = 1, intermediate: 0.33 (n = 12); "
    medians += "m, semeval, r = 2, last: 0.75 (n = 2); m, mfrc, r = 1, last: 0.65 (n = 12)."
    assert semeval.figure.alt.endswith(medians)


def test_fig_3_adds_what_becomes_of_the_second_label(table):
    table.loc[table["next_label"] == "fear", "top1"] = ["fear"] * 3 + ["joy"] * 9  # three say the argmax again
    shares = steps.summarise(table)
    semeval, mfrc = reporting.steps.second(table, shares).axes
    assert ticks(semeval)[:3] == ["second r = 1 12 / 12 (4.0 / 4.0)", "said next 9 (3.9)", "second r + 1 12 (4.0)"]
    assert ticks(semeval)[3:] == ["second r = 2 2 / 0 (2.0 / 0.0)", "said next 0 (0.0)", "second r + 1 0 (0.0)"]
    (found,) = [text for text in texts(semeval) if "said next" in text]
    share = shares.query("corpus == 'semeval' and quantity == 'second_is_next' and step == 1").iloc[0]
    assert found == f"second said next: 50 % [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
    assert texts(mfrc) == ["no intermediate step", "no step", "no step", "no answer has a step 2", "no step", "no step"]
    told = "m, semeval, r = 1, intermediate, "
    told = f"{told}next_said: 0.20 (n = 9); {told}second_next: 0.30 (n = 12); {told}second_is_next: 0.50 (n = 12)"
    assert told in semeval.figure.alt


def test_first_step_sorts_each_document():
    table = pd.DataFrame({"corpus": "mfrc", "document": list("aaabbb"), "probability": [0.1, 0.7, 0.2, 0.3, 0.3, 0.4]})
    fig = reporting.steps.first_step(table)
    (axis,) = fig.axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.7, 0.2, 0.1])
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), [0.55, 0.25, 0.2])  # median at each rank
    assert axis.get_title() == "MFRC, n = 2"
    assert fig.alt.endswith("one line a document: mfrc, n = 2; the median top probability is 0.55.")
    with pytest.raises(ValueError, match="different numbers of labels"):
        reporting.steps.first_step(table.iloc[:-1])


def test_fig_9_draws_the_quartiles(table):
    (semeval, _) = reporting.steps.boxes(table).axes
    assert ticks(semeval)[0] == "largest r = 1 12 / 12 (4.0 / 4.0)"
    heights = [patch.get_path().get_extents() for patch in semeval.patches if patch.get_path().get_extents().height > 0]
    quartiles = np.quantile(np.linspace(0.4, 0.9, 12), [0.25, 0.75])
    assert any((box.y0, box.y1) == pytest.approx(tuple(quartiles)) for box in heights)


def test_fig_10_has_the_entropy_of_knowing_nothing(table):
    semeval, mfrc = reporting.steps.entropies(table, {"semeval": 11, "mfrc": 7}).axes
    assert [line.get_ydata()[0] for line in mfrc.lines if line.get_linestyle() == "--"][-1] == 3
    assert semeval.get_ylim()[1] > np.log2(12) and len(semeval.figure.legends) == 1
    assert semeval.figure.alt.endswith("All labels and none equal: semeval 3.58, mfrc 3.00.")


def test_fig_5_names_what_it_drops():
    columns = ["model", "corpus", "gold", "label", "mean", "low", "high", "n", "different", "shown"]
    points = [
        ["m", "semeval", "two or more", "first", 0.6, 0.5, 0.7, 40, 7.25, True],
        ["m", "semeval", "two or more", "second", 0.4, 0.3, 0.5, 40, 7.25, True],
        ["m", "semeval", "any", "first", 0.9, 0.8, 1.0, 60, 9.0, True],
        ["m", "mfrc", "two or more", "first", 1.0, NAN, NAN, 3, 1.0, False],
        ["m", "mfrc", "two or more", "second", 1.0, NAN, NAN, 3, 1.0, False],
    ]
    frame = pd.DataFrame(points, columns=columns)
    (axis,) = reporting.steps.accuracies(frame).axes
    assert axis.figure.alt.endswith("said: m, semeval, first: 0.60 (n = 40); m, semeval, second: 0.40 (n = 40).")
    (line,) = [container[0] for container in axis.containers]
    assert [text.get_text() for text in axis.figure.legends[0].get_texts()] == ["SemEval, n = 40 (7.2 different)"]
    assert line.get_ydata() == pytest.approx([0.6, 0.4]) and "MFRC (3)" in axis.get_xlabel()
    (axis,) = reporting.steps.accuracies(frame[frame["corpus"] == "mfrc"]).axes
    assert axis.figure.alt.endswith("second label said: no model has more than ten such answers.")
    assert not axis.containers and texts(axis) == ["no model has enough answers with two or more labels"]


def test_fig_11_has_bars_at_ranks_published_marks_and_words():
    columns = ["model", "corpus", "reading", "label", "place", "mean", "low", "high", "n", "different"]
    places = [
        ["m", "semeval", "A", 2, 2, 0.7, 0.6, 0.8, 30, 7.5],
        ["m", "semeval", "A", 2, 9, 0.2, 0.1, 0.3, 30, 7.5],
        ["m", "semeval", "A", 2, 11, 0.1, 0.0, 0.2, 30, 7.5],
        ["m", "semeval", "A", 3, 3, 1.0, 1.0, 1.0, 12, 3.0],
        ["m", "mfrc", "B", 0, 0, NAN, NAN, NAN, 0, 0.0],
        ["m", "boxes", "A", 2, 2, 1.0, NAN, NAN, 1, 0.25],
        ["m", "goemotions", "A", 2, 1, 0.0, 0.0, 0.2, 11, 2.75],
        ["m", "goemotions", "A", 2, 2, 1.0, 0.8, 1.0, 11, 2.75],
        ["m", "goemotions", "A", 3, 3, 1.0, 0.7, 1.0, 10, 2.5],
    ]
    semeval, mfrc, boxes, few = reporting.steps.second_ranks(pd.DataFrame(places, columns=columns)).axes

    def bars(axis):
        return {(round(bar.get_x() + bar.get_width() / 2, 1), round(bar.get_height(), 2)) for bar in axis.patches}

    assert bars(semeval) == {(1.8, 0.7), (3.2, 1.0), (8.8, 0.3)}  # behind the eighth rank: joined
    assert {line.get_ydata()[0] for line in semeval.lines if line.get_marker() in "os"} == {0.5, 0.65}
    assert texts(semeval) == ["n = 30 / 12 (7.5 / 3.0 different)"] and texts(mfrc) == [
        "no answer with two or more labels"
    ]
    ranked = (
        "that were second: m, semeval: 0.70 (n = 30); m, goemotions: 1.00 (n = 11). Published: 0.50 at 8B, 0.65 at 70B."
    )
    assert semeval.figure.alt.endswith(ranked)
    # Ten answers or fewer are no share, as in Fig. 5: one answer would be a full bar.
    assert bars(boxes) == set() and texts(boxes) == ["too few answers with two or more labels (n = 1)"]
    assert bars(few) == {(1.8, 1.0)} and texts(few) == ["n = 11 / 10 (too few) (2.8 / 2.5 different)"]


def test_ten_steps_are_dots_and_eleven_a_shape():
    values = np.linspace(0.4, 0.9, 11)
    table = pd.concat([rows("mfrc", "m", 1, True, values), rows("mfrc", "m", 1, False, values[:10])])
    for draw in (reporting.steps.largest, reporting.steps.boxes):
        (axis,) = draw(table).axes
        dots = [line for line in axis.lines if line.get_marker() == "^"]
        assert [line.get_ydata().tolist() for line in dots][0] == values[:10].tolist()
        assert len(set(dots[0].get_xdata())) == 10  # equal values are seen, too
        assert len(halves(axis)) == 1 or len(axis.patches) == 2


def test_table_4_tells_what_says_too_little():
    columns = ["value", "low", "high", "n", "different", "not_next", "not_next_low", "not_next_high", "intermediate"]
    columns.append("intermediate_different")
    table = pd.DataFrame(
        [
            [90.0, 80.04, 95.06, 11, 3.25, 50.0, 40.0, 60.0, 22, 6.0],
            [100.0, 2.5, 100.0, 10, 1.0, 71.4, 40.0, 95.0, 14, 1.5],
            [NAN, NAN, NAN, 0, 0.0, 0.0, 0.0, 70.8, 3, 1.0],
            [88.1, *[NAN] * 9],
        ],
        columns=columns,
    ).assign(source="ours", model="m", corpus="c", published_not_next=["22.2 to 49.8", None, None, None])
    told = reporting.steps.write_never_said(table)
    assert told["never said later, %"].tolist() == [
        "90.0 [80.0, 95.1]", "too few (n = 10)", "too few (n = 0)", "88.1",
    ]  # fmt: skip
    assert told["not said next, %"].tolist() == ["50.0 [40.0, 60.0]", "71.4 [40.0, 95.0]", "too few (n = 3)", ""]
    assert told["not said next, published"].tolist() == ["22.2 to 49.8", "", "", ""]
    assert told["never said later, n"].tolist() == ["11 (3.2 different)", "10 (1.0 different)", "0 (0.0 different)", ""]
    assert told["not said next, n"].tolist() == ["22 (6.0 different)", "14 (1.5 different)", "3 (1.0 different)", ""]


def test_many_models_stand_in_lines_with_one_label_below(table):
    both = pd.concat([table.assign(model=name) for name in ("a", "b", "c")])
    fig = reporting.steps.second(both, steps.summarise(both))  # six places a panel: two panels side by side
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    assert titles == [f"{m}\n{c}" for c in ("SemEval", "MFRC") for m in "abc"]
    assert [axis.get_xlabel() for axis in fig.axes] == [""] * 5 + ["steps (different answers): last / intermediate"]
    wide = reporting.steps.largest(both).axes
    assert [axis.get_xlabel() != "" for axis in wide] == [False] * 4 + [True, False]


def test_models_are_columns_and_a_missing_trace_is_said(table):
    both = pd.concat([table, rows("mfrc", "other", 1, True, np.linspace(0.1, 0.9, 8))])
    fig = reporting.steps.largest(both)
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    assert titles == ["m\nSemEval", "other\nSemEval", "MFRC", "MFRC"]
    assert texts(fig.axes[1]) == ["no label step"] and fig.get_size_inches()[0] == pytest.approx(6.30)


def test_nothing_to_draw_and_missing_columns_are_errors(table):
    with pytest.raises(ValueError, match="no rows"):
        reporting.steps.largest(table.iloc[:0])
    with pytest.raises(ValueError, match="lacks the columns .*entropy"):
        reporting.steps.entropies(table.drop(columns="entropy"), {})


def test_a_model_that_never_says_two_labels_is_said_so_in_every_figure(tmp_path):
    """From the trace on: words stand where there is nothing to draw, in place of an empty axis."""
    logits = np.random.default_rng(0).normal(size=(30, 4))
    trace = write(tmp_path, [["joy"]] * 30, logits, gold=[[True, True, False]] * 30)
    table = steps.gather([trace])
    figures = {
        "fig2": reporting.steps.largest(table),
        "fig3": reporting.steps.second(table, steps.summarise(table)),
        "fig9": reporting.steps.boxes(table),
        "fig10": reporting.steps.entropies(table, {"foxes": 3}),
        "fig5": reporting.steps.accuracies(steps.accuracy(table)),
        "fig11": reporting.steps.second_ranks(steps.ranks(table)),
        "fig16": reporting.medusa.largest(table.assign(head=0)),
    }
    told = {name: texts(axis) for name, fig in figures.items() for axis in fig.axes}
    assert told["fig2"] == told["fig10"] == ["no intermediate step", "no answer has a step 2"]
    assert told["fig3"] == ["no intermediate step", *["no step"] * 2, "no answer has a step 2", *["no step"] * 2]
    assert told["fig9"] == ["no intermediate step"] * 2 + ["no answer has a step 2"] * 2
    assert told["fig5"] == ["no model has enough answers with two or more labels"]
    assert "foxes (0)" in figures["fig5"].axes[0].get_xlabel()
    assert told["fig11"] == ["no answer with two or more labels"]
    assert told["fig16"] == ["no intermediate step", "no step 2 that this head reads"]
    table4 = steps.never_said(table).assign(source="ours", published_not_next=None)
    assert reporting.steps.write_never_said(table4)["never said later, %"].tolist() == ["too few (n = 0)"]
    unsure = {row["verdict"] for row in steps.judge(table)}
    assert unsure == {claims.VERDICTS[2]}
