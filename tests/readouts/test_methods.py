"""The registry of rows, and readouts of a small trace."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from mlutils import metrics, readouts
from mlutils.readouts import alignment, fitted
from mlutils.reporting import looks
from tests.readouts.test_probabilities import NAN, both_ways, padded

# P(joy beats fear), P(joy beats none), P(fear beats none) in each document.
PAIRS = [[[0, joy, one], [0, 0, two], [0, 0, 0]] for joy, one, two in ((0.9, 0.8, 0.3), (0.2, 0.4, 0.6), (1, 1, 0))]


class TinyTrace:
    """Stands in for mlutils.traces: three documents, two labels; the last document has no label step."""

    labels = ("joy", "fear")
    single_label = False
    documents = pd.DataFrame({"id": ["a", "b", "c"]})

    def step_logits(self, view="list"):
        return padded([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]], [[-1.0, 0.0, 4.0]], [], width=3)

    def said(self, view="list"):
        return np.array([[True, True], [False, False], [False, False]])

    def goes_on(self, view="list"):
        return np.array([[0.9, NAN], [0.1, NAN], [NAN, NAN]])

    def unary_logits(self):
        yes = np.array([[1.0, 0.0, NAN], [0.5, 0.5, NAN], [0.0, 2.0, NAN]])  # none is not asked
        return yes, np.zeros((3, 3)) + np.array([0.0, 0.0, NAN])

    def pairwise_wins(self, ordered=False):
        return np.concatenate([both_ways(upper) for upper in PAIRS])

    def table(self, name):
        assert name == "nodes"
        rows = [("a", [], [2.0, 0.0, 1.0], NAN), ("a", ["joy"], [0.0, 3.0, 0.0], 0.9)]
        return pd.DataFrame(rows, columns=["document", "prefix", "logits", "goes_on"])

    def complete(self):
        return np.ones(3, dtype=bool)


def test_from_trace():
    trace = TinyTrace()
    first, second = softmax([2.0, 0.0, 1.0]), softmax([0.0, 3.0, 0.0])
    alone = softmax([-1.0, 0.0, 4.0])
    expected = {
        "compare_to_none": [expit([1.0, -1.0]), expit([-5.0, -4.0]), [0.5, 0.5]],
        "hard_predictions": [[1, 1], [0, 0], [0, 0]],
        "unary_breakdown": expit([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]]),
        "binary_breakdown": [readouts.pairwise(both_ways(upper))[0] for upper in PAIRS],
        "binary_breakdown_outcomes": [readouts.pairwise(both_ways(np.round(upper)))[0] for upper in PAIRS],
        "binary_breakdown_position": [readouts.pairwise(both_ways(upper))[0] for upper in PAIRS],  # none to take out
        "max_over_generations": [[first[0], second[1]], alone[:2], [0.5, 0.5]],
        "path_marginal": [np.minimum(first + 0.9 * second, 1)[:2], alone[:2], [0.5, 0.5]],
        # Lists that begin with fear are open, and so is joy, joy: half of their mass may still say the other label.
        "set_marginal": [
            [first[0] + first[1] / 2, first[1] + first[0] * 0.9 * (second[1] + second[0] / 2)],
            [0.5, 0.5],
            [0.5, 0.5],
        ],
    }
    assert set(expected) == set(readouts.select("is_readout"))
    trace.settings = {"views": ["pairwise"], "pair_order": "plan"}
    assert readouts.readable(trace) == ["binary_breakdown", "binary_breakdown_outcomes"]
    trace.settings["pair_order"] = "both"
    assert readouts.readable(trace)[-1] == "binary_breakdown_position"
    for method, values in expected.items():
        assert readouts.from_trace(trace, method) == pytest.approx(np.array(values), abs=2e-8), method


def test_from_trace_single_label():
    trace = TinyTrace()
    trace.single_label = True
    expected = {
        "compare_to_none": [softmax([2.0, 0.0]), softmax([-1.0, 0.0]), [0.5, 0.5]],
        "hard_predictions": [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]],
        "unary_breakdown": [softmax([1.0, 0.0]), [0.5, 0.5], softmax([0.0, 2.0])],
        # None takes no part; of two labels the one that wins has sigmoid of the difference of their scores.
        "binary_breakdown": [readouts.pairwise_single(both_ways([[0, p], [0, 0]]))[0] for p in (0.9, 0.2, 1)],
        "binary_breakdown_outcomes": [readouts.pairwise_single(both_ways([[0, p], [0, 0]]))[0] for p in (1, 0, 1)],
    }
    for name in readouts.select("is_readout"):
        if name in expected:
            value = readouts.from_trace(trace, name)
            assert value == pytest.approx(np.array(expected[name]), abs=2e-8)
            assert np.isfinite(metrics.nll_single(value, np.tile([1.0, 0.0], (3, 1)))).all()
        else:
            with pytest.raises(ValueError, match="no form for single-label"):
                readouts.from_trace(trace, name)


@pytest.mark.parametrize("method", ["unary_breakdown", "binary_breakdown", "binary_breakdown_outcomes"])
def test_documents_whose_failure_is_recorded_have_no_numbers(method):
    whole, trace = readouts.from_trace(TinyTrace(), method), TinyTrace()
    failed = np.array([False, True, False])
    yes, no, wins = *TinyTrace().unary_logits(), TinyTrace().pairwise_wins()
    yes[1] = no[1] = wins[1] = NAN
    trace.unary_logits, trace.pairwise_wins = lambda: (yes, no), lambda **_: wins
    with pytest.raises(ValueError, match=r"1 of 3 documents"):
        readouts.from_trace(trace, method)
    trace.complete = lambda: ~failed
    value = readouts.from_trace(trace, method)
    assert np.isnan(value[1]).all() and value[~failed] == pytest.approx(whole[~failed])


def test_from_trace_without_any_step_and_with_an_unknown_method():
    trace = TinyTrace()
    trace.step_logits = lambda view="list": np.empty((3, 0, 3))
    trace.goes_on = lambda view="list": np.empty((3, 0))
    for method in ("compare_to_none", "max_over_generations", "path_marginal"):
        assert (readouts.from_trace(trace, method) == 0.5).all()
    with pytest.raises(ValueError, match="unknown method 'maximum'; choose one of compare_to_none"):
        readouts.from_trace(trace, "maximum")
    with pytest.raises(ValueError, match="unknown method 'tfidf'"):  # a row, but not one of traces
        readouts.from_trace(trace, "tfidf")
    with pytest.raises(ValueError, match="conventions 'theirs' are not known: take ours or released"):
        readouts.from_trace(trace, "hard_predictions", "theirs")


def test_the_released_code_reads_single_label_unary_questions_otherwise():
    trace = TinyTrace()
    both = readouts.from_trace(trace, "unary_breakdown"), readouts.from_trace(trace, "unary_breakdown", "released")
    assert (both[0] == both[1]).all()
    trace.single_label = True
    odds = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
    assert readouts.from_trace(trace, "unary_breakdown", "released") == pytest.approx(softmax(expit(odds), axis=1))
    both = readouts.from_trace(trace, "hard_predictions"), readouts.from_trace(trace, "hard_predictions", "released")
    assert (both[0] == both[1]).all()


def test_rows_say_what_holds_for_them():
    for name, method in readouts.METHODS.items():
        assert name == method.name and set(method.views) <= {"list", "unary", "pairwise", "sets"}
        assert method.is_readout == bool(method.views) == (method.group == "zero-shot")
        assert method.is_readout or not (method.single_label or method.calibrated or method.free or method.followed)
        assert not method.after_sft or readouts.METHODS[method.after_sft].is_readout
    places = [readouts.METHODS[name].followed for name in readouts.select("followed")]
    assert len(set(places)) == len(places)


def test_a_readout_is_added_in_one_place(corpus, monkeypatch):
    toy = readouts.Method(
        "toy",
        "Toy",
        "zero-shot",
        "black",
        "o",
        views=("list",),
        multi_label=lambda trace: np.full((3, 2), 0.25),
        calibrated=True,
        stacked=True,
        free=True,
    )
    monkeypatch.setitem(readouts.METHODS, "toy", toy)
    trace = TinyTrace()
    trace.settings = {"views": ["list"], "pair_order": "plan"}
    assert "toy" in readouts.readable(trace) and (readouts.from_trace(trace, "toy") == 0.25).all()

    predicted = {("m", "toy"): np.full(corpus.votes.shape, 0.25)}
    assert list(fitted.calibrate(predicted, corpus.votes, {}, None)) == [("m", "toy_crossfitted")]
    assert list(fitted.shift(predicted, np.full(3, 0.5))) == [("m", "toy_shifted")]
    assert list(fitted.stack(predicted, corpus.votes, {}, None)[0]) == [("", "stacking_crossfitted")]

    nll = np.linspace(1, 3, len(corpus))
    scores = {("m", "max_over_generations"): {"nll": nll}, ("m", "toy"): {"nll": nll + 0.5}}
    (ahead,) = alignment.judge_readouts(scores, corpus)
    assert ahead["value"] == pytest.approx(-0.5)

    assert looks.look("toy_calibrated").title == "Toy, calibrated" and looks.look("toy").marker == "o"
    assert looks.order("sft_outputs") > looks.order("toy") > looks.order("set_marginal")
