"""Rows fitted on documents set aside."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from mlutils import metrics
from mlutils.readouts import calibration, fitted


def made(documents, seed):
    """A readout that is twice too sure and too high, a second that is noise, and votes."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-0.5, 1.5, (documents, 3)))
    votes = rng.binomial(5, truth) / 5
    rows = {
        ("m", "unary_breakdown"): expit(2 * logit(truth) + 1),
        ("m", "compare_to_none"): rng.random((documents, 3)),
        ("m", "hard_predictions"): np.full((documents, 3), 0.5),
    }
    return rows, votes, truth


def test_calibrations_are_fitted_on_documents_set_aside_and_named():
    tested, votes, truth = made(300, 0)
    aside, aside_votes, _ = made(2000, 1)
    rows = fitted.calibrate(tested, votes, aside, aside_votes)
    assert set(rows) == {
        ("m", f"{r}_{v}") for r in ("unary_breakdown", "compare_to_none") for v in ("calibrated", "offsets")
    }
    assert rows["m", "unary_breakdown_calibrated"] == pytest.approx(truth, abs=0.05)
    # Nothing of the tested votes is used.
    again = fitted.calibrate(tested, 1 - votes, aside, aside_votes)
    assert all((again[row] == rows[row]).all() for row in rows)


def test_without_documents_set_aside_rows_are_cross_fitted_and_say_so():
    tested, votes, truth = made(600, 0)
    rows = fitted.calibrate(tested, votes, {}, None)
    assert set(rows) == {("m", "unary_breakdown_crossfitted"), ("m", "compare_to_none_crossfitted")}
    assert rows["m", "unary_breakdown_crossfitted"] == pytest.approx(truth, abs=0.08)


def test_shifted_rows_have_the_prevalence_asked_for():
    tested, _, _ = made(100, 0)
    wanted = np.array([0.1, 0.5, 0.02])
    rows = fitted.shift(tested, wanted)
    assert set(rows) == {("m", "unary_breakdown_shifted"), ("m", "compare_to_none_shifted")}
    for values in rows.values():
        assert values.mean(axis=0) == pytest.approx(wanted, abs=1e-6)


def test_prevalence_is_of_whom_it_names(corpus):
    tested, aside = corpus.take(range(10)), corpus.take(range(10, 20))
    found = {which: fitted.find_prevalence(which, tested, corpus, aside, ["d3", "d4"]) for which in fitted.PREVALENCES}
    for which, part in (
        ("train", aside),
        ("natural", corpus),
        ("tested", tested),
        ("demonstrations", corpus.take([3, 4])),
    ):
        assert found[which] == pytest.approx(calibration.prevalence(part.votes))
    with pytest.raises(ValueError, match="take one of train, natural"):
        fitted.find_prevalence("theirs", tested, corpus, aside)
    with pytest.raises(ValueError, match="no documents for prevalence 'train'"):
        fitted.find_prevalence("train", tested, corpus, None)
    with pytest.raises(ValueError, match="no documents for prevalence 'demonstrations'"):
        fitted.find_prevalence("demonstrations", tested, corpus, aside)
    silent = replace(aside, votes=np.full(aside.votes.shape, np.nan))
    with pytest.raises(ValueError, match="no document has votes"):
        fitted.find_prevalence("train", tested, corpus, silent)


def test_a_stack_uses_views_that_both_parts_have():
    tested, votes, truth = made(300, 0)
    aside, aside_votes, aside_truth = made(1000, 1)
    tested["", "encoder_soft"], aside["", "tfidf"] = truth, aside_truth  # each known on one side only
    rows, held = fitted.stack(tested, votes, aside, aside_votes)
    assert set(rows) == set(held) == {("", "stacking")}
    assert rows["", "stacking"] == pytest.approx(truth, abs=0.1) and held["", "stacking"].shape == (1000, 3)
    again, _ = fitted.stack(tested, 1 - votes, aside, aside_votes)
    assert (again["", "stacking"] == rows["", "stacking"]).all()
    crossed, nothing = fitted.stack(tested, votes, {}, None)
    assert set(crossed) == {("", "stacking_crossfitted")} and nothing == {}
    assert fitted.stack({("m", "hard_predictions"): votes}, votes, {}, None) == ({}, {})


def test_decisions_beat_the_threshold_where_probabilities_are_low():
    rng = np.random.default_rng(0)
    truth = rng.choice([0.05, 0.45], (3000, 3))
    votes = (rng.random((3000, 3)) < truth).astype(float)
    low = truth / 2
    by_threshold = metrics.example_f1(low, votes).mean()
    for given in ((low[:1500], votes[:1500], low[1500:], votes[1500:]), (low[:1500], votes[:1500])):
        sets = fitted.decide(*given)
        assert metrics.example_f1(sets.astype(float), votes[:1500]).mean() > by_threshold + 0.05


def test_rows_whose_documents_are_too_few_or_too_much_alike_are_left_out_and_named():
    tested, votes, _ = made(4, 0)
    aside, aside_votes, _ = made(50, 1)
    del aside["m", "compare_to_none"]  # of one readout there are no documents set aside
    with pytest.raises(calibration.FitError, match="4 documents cannot be cut into 5 folds"):
        fitted.calibrate(tested, votes, aside, aside_votes)
    left_out = {}
    rows = fitted.calibrate(tested, votes, aside, aside_votes, left_out=left_out)
    assert set(rows) == {("m", "unary_breakdown_calibrated"), ("m", "unary_breakdown_offsets")}
    assert left_out == {
        ("m", "compare_to_none_crossfitted"): "4 documents cannot be cut into 5 folds: give more documents"
    }

    left_out = {}
    few = {row: values[:3] for row, values in aside.items()}
    rows = fitted.calibrate(tested, votes, few, aside_votes[:3], left_out=left_out)
    assert set(rows) == {("m", "unary_breakdown_calibrated")}  # slope and offset need no folds
    assert set(left_out) == {("m", "unary_breakdown_offsets"), ("m", "compare_to_none_crossfitted")}
    assert fitted.stack(tested, votes, few, aside_votes[:3], left_out=left_out) == ({}, {})
    assert fitted.stack(tested, votes, {}, None, left_out=left_out) == ({}, {})
    assert {("", "stacking"), ("", "stacking_crossfitted")} < set(left_out)

    left_out = {}
    assert not fitted.calibrate(tested, votes, aside, np.zeros_like(aside_votes), left_out=left_out).keys()
    assert all("4 documents" in why or "hold no positive" in why for why in left_out.values()) and len(left_out) == 3


def test_majorities_that_nobody_has_are_called_so():
    """Every share is a third: annotators did choose labels, but none has a majority."""
    tested, _, _ = made(40, 0)
    thirds, left_out = np.full((40, 3), 1 / 3), {}
    assert set(fitted.calibrate(tested, thirds, {}, None)) == {
        ("m", "unary_breakdown_crossfitted"), ("m", "compare_to_none_crossfitted")
    }  # fmt: skip
    for given in ((tested["m", "unary_breakdown"], thirds), (tested["m", "unary_breakdown"], thirds, thirds, thirds)):
        assert fitted.attempt(left_out, ("m", "decided"), fitted.decide, *given) is None
        assert "the majorities) are 0 for every label" in left_out["m", "decided"]
        assert "no annotator" not in left_out["m", "decided"]
    with pytest.raises(calibration.FitError, match=r"the majorities\) are 1 for every label"):
        fitted.decide(tested["m", "unary_breakdown"], np.full((40, 3), 2 / 3))
