"""Probes with held-out documents: counts and draws by hand, made-up traces of which the answer is known, figures."""

import json
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from mlutils import metrics, reporting
from mlutils.readouts import answers, claims
from mlutils.reporting import drawing
from mlutils.traces import Trace
from mlutils.training import hidden
from mlutils.training.hidden import Sample, count, draw_auc, draw_f1, gather, name_pairs, pair_up, summarise
from mlutils.writer import Writer
from tests.readouts.test_steps import calls

LABELS = ["anger", "fear", "joy"]


@pytest.fixture(scope="module", autouse=True)
def one_strength():
    """Tries one strength of regularisation: choosing among four takes twenty times as long, and test_probes.py does."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("probe", "fit_logistic"):
            patch.setattr(hidden, name, partial(getattr(hidden, name), strengths=(10.0,)))
        yield


# -- scores --------------------------------------------------------------------------------------------------------
def test_counts_by_hand():
    predicted = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    truth = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 0]], bool)
    assert count(predicted, truth).tolist() == [[1, 2, 2], [0, 0, 1], [1, 1, 1]]
    assert draw_f1(count(predicted, truth))[0] == pytest.approx(2 * 2 / (3 + 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_micro_f1_is_that_of_scikit_learn_on_each_resample(documents, labels, seed):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.random((2, documents, labels)) < 0.4
    draws = draw_f1(count(predicted, truth), resamples=5, seed=seed)
    weights = np.concatenate(list(hidden._weights(documents, 5, seed)))
    assert (weights.sum(axis=1) == documents).all() and len(draws) == 6
    for value, weight in zip(draws, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(documents), weight)
        if truth[rows].any():
            wanted = f1_score(truth[rows].ravel(), predicted[rows].ravel(), zero_division=0)
            assert value == pytest.approx(wanted)
        else:
            assert np.isnan(value)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_auc_is_that_of_scikit_learn_on_each_resample(documents, values, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, values, documents) / 7, rng.random(documents) < 0.4
    draws = draw_auc(scores, truth, resamples=5, seed=seed)
    for value, weight in zip(draws, np.concatenate(list(hidden._weights(documents, 5, seed))), strict=True):
        if len(set(truth[weight > 0])) == 2:
            assert value == pytest.approx(roc_auc_score(truth, scores, sample_weight=weight))
        else:
            assert np.isnan(value)


def test_resamples_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch):
    counts = count(*(np.random.default_rng(0).random((2, 40, 3)) < 0.5))
    whole = draw_f1(counts, 50)
    monkeypatch.setattr(metrics, "CHUNK", 90)
    assert draw_f1(counts, 50) == pytest.approx(whole)


def test_micro_f1_of_a_resample_is_no_mean_over_documents():
    # One document with ten labels found, nine with one missed: 10 of 19 found, not one document of ten.
    counts = np.array([[10, 10, 10]] + [[0, 0, 1]] * 9)
    value, low, high = summarise(draw_f1(counts))
    assert value == pytest.approx(20 / 29) and low == 0 and high > 0.8


def test_nothing_to_find_has_no_score_and_no_interval():
    assert np.isnan(summarise(draw_f1(np.array([[0, 2, 0], [0, 0, 0]])))).all()
    assert np.isnan(summarise(draw_auc([0.1, 0.2], [True, True]))).all()
    assert draw_auc([0.1, 0.2], [True, False])[0] == 0


def test_intervals_cover():
    rng, inside = np.random.default_rng(0), 0
    truth_rate = 2 * 0.7 / 2  # predicted is the truth with a share of 0.3 swapped for another label
    for _ in range(100):
        labels = rng.integers(0, 5, 80)
        said = np.where(rng.random(80) < 0.7, labels, (labels + 1) % 5)
        _, low, high = summarise(draw_f1(count(np.eye(5, dtype=bool)[said], np.eye(5, dtype=bool)[labels]), 400))
        inside += low <= truth_rate <= high
    assert 88 <= inside <= 100


# -- probes --------------------------------------------------------------------------------------------------------
def sample(documents, seed, later=0.0, single=False, gold_known=True, dimensions=24):
    """States that tell the first label said (of two), and, with the strength `later`, whether the third follows."""
    rng = np.random.default_rng(seed)
    first = np.eye(3, dtype=bool)[rng.integers(0, 2, documents)]
    second = np.zeros_like(first)
    second[:, 2] = rng.random(documents) < 0.5
    states = rng.normal(size=(documents, 2, dimensions)) * 0.3
    states[:, 1, :3] += 3 * first - 1.5
    states[:, 1, 3] += later * (3 * second[:, 2] - 1.5)
    gold = first.copy() if gold_known else np.eye(3, dtype=bool)[rng.integers(0, 3, documents)]
    said = first if single else first | second
    lists = pd.Series([tuple(np.flatnonzero(each)) for each in said])
    return Sample(states, gold, said, first, np.log(np.full((documents, 4), 0.25)), single, lists)


def values(table, name="measure"):
    return table.set_index(name)["value"]


def test_probes_find_the_first_label_and_not_the_later_one():
    tested, aside = sample(200, 0), sample(300, 1)
    table = hidden.tabulate_sets(tested, aside, controls=1)
    found = values(table)
    assert found["gold"] > 0.95 and found["perf"] == draw_f1(count(tested.said, tested.gold))[0]
    assert found["gold"] > found["pred"] > found["pred_2plus"]
    rows = table.set_index("measure")
    assert rows.loc["pred_minus_2plus", "low"] > 0 and rows.loc["selectivity_pred_minus_2plus", "low"] > 0
    assert rows.loc["selectivity_pred_2plus", "low"] < 0.1
    assert rows.loc["pred_2plus", "to_find"] == (tested.said.sum(1) >= 2).sum() < rows.loc["pred", "to_find"] == 200
    knows = values(hidden.tabulate_sets(sample(200, 0, later=1), sample(300, 1, later=1), controls=1))
    assert knows["pred_2plus"] > 0.95  # where the state does hold the later label, the probe finds it


def test_each_layer_has_its_own_probe():
    table = hidden.tabulate_sets(sample(200, 0), sample(300, 1), layers=[0, 1], controls=1)
    gold = table[table["measure"] == "gold"].set_index("layer")["value"]
    assert gold[0] < 0.7 and gold[1] > 0.95


def test_differences_are_paired():
    tested, aside = sample(60, 0), sample(100, 1)
    counts, _ = hidden.probe_sets(tested, aside, controls=1)
    draws = draw_f1(counts["pred"]) - draw_f1(counts["pred_2plus"])
    row = hidden.tabulate_sets(tested, aside, controls=1).set_index("measure").loc["pred_minus_2plus"]
    assert row[["value", "low", "high"]].tolist() == pytest.approx(summarise(draws))


def test_the_first_label_is_taken_out_of_truth_and_prediction(monkeypatch):
    gold = np.zeros((3, 3), bool)
    said = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    first = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    lists = pd.Series([("b", "a"), ("c",), ()])
    tested = Sample(np.ones((3, 1, 2)), gold, said, first, np.zeros((3, 4)), False, lists)
    predicted = np.array([[0.9, 0.9, 0.9], [0, 0, 0.9], [0.9, 0, 0]])
    for name in ("probe", "fit_logistic"):
        monkeypatch.setattr(hidden, name, lambda *given, **named: (predicted, np.zeros(3, bool)))
    counts, _ = hidden.probe_sets(tested, tested, controls=1)
    assert counts["pred"].tolist() == [[2, 3, 2], [1, 1, 1], [0, 1, 0]]
    # An empty answer takes nothing out: what is predicted there still counts against the probe.
    assert counts["pred_2plus"].tolist() == [[1, 2, 1], [0, 0, 0], [0, 1, 0]]


def test_lists_that_are_always_the_same_are_told_from_their_first_label():
    tested, aside = sample(100, 0), sample(200, 1)
    for each in (tested, aside):
        each.said[:, 2] = each.first[:, 0]  # anger is followed by joy, fear by nothing
    table = hidden.tabulate_sets(tested, aside, controls=1).set_index("measure")
    assert table.loc["first_label_2plus", "value"] == 1 and table.loc["pred_2plus", "value"] > 0.95
    row = table.loc["pred_2plus_minus_first_label"]
    assert row["value"] == pytest.approx(table.loc["pred_2plus", "value"] - 1) and row["high"] <= 0
    assert hidden.tabulate_following(tested, aside).set_index("source").loc["first_label", "value"] == 1


def test_constant_labels_are_skipped_and_counted():
    tested, aside = sample(100, 0), sample(200, 1)
    aside.said[:, 2] = True  # said of all documents set aside, of half of the tested ones
    counts, skips = hidden.probe_sets(tested, aside, controls=1)
    assert skips["pred"].tolist() == [False, False, True] and skips["gold"].tolist() == [False, False, True]
    assert counts["pred"][:, 2].sum() == tested.said[:, :2].sum()
    assert (counts["perf"] == count(tested.said, tested.gold)).all()  # saying what gold never holds is a mistake
    table = hidden.tabulate_sets(tested, aside, controls=1).set_index("measure")
    for measure, wanted in (("pred", [2, 1]), ("first_label_2plus", [2, 1]), ("gold", [2, 1]), ("perf", [3, 0])):
        assert table.loc[measure, ["labels", "skipped"]].tolist() == wanted


def test_one_answer_for_all_documents_has_no_probe():
    tested, aside = sample(50, 0), sample(60, 1)
    for each in (tested, aside):
        each.said[:] = each.first[:] = [False, False, True]
    table = hidden.tabulate_sets(tested, aside, controls=1).set_index("measure")
    assert table.loc[["pred", "pred_2plus", "selectivity_pred", "pred_minus_2plus"], "value"].isna().all()
    assert table.loc["pred", "labels"] == 0 and not np.isnan(table.loc["gold", "value"])


def test_single_labels_take_the_most_probable_and_have_no_second():
    table = hidden.tabulate_sets(sample(100, 0, single=True), sample(200, 1, single=True), controls=1)
    assert not table["measure"].str.contains("2plus").any()
    assert values(table)["pred"] > 0.95 and values(table)["control_pred"] < 0.75


# -- another label follows -----------------------------------------------------------------------------------------
def test_following_is_found_in_states_that_hold_it_only():
    knows = hidden.tabulate_following(sample(200, 0, later=1), sample(300, 1, later=1)).set_index("source")
    assert knows.loc["state", "low"] > 0.95 and knows.loc["state_minus_first_label", "low"] > 0.3
    assert knows.loc["distribution", "value"] == 0.5  # the same of all documents: all ties
    blind = hidden.tabulate_following(sample(200, 0), sample(300, 1)).set_index("source")
    assert 0.35 < blind.loc["state", "value"] < 0.65
    truth = sample(200, 0).said[:, 2]
    assert blind.loc["state", ["n", "follow"]].tolist() == [200, truth.sum()]
    assert blind.loc["state", "majority"] == pytest.approx(max(truth.mean(), 1 - truth.mean()))


def test_the_difference_of_state_and_first_label_is_paired():
    tested, aside = sample(80, 0, later=1), sample(120, 1, later=1)
    scores, truth = hidden.probe_following(tested, aside)
    draws = hidden.draw_auc(scores["state"], truth) - hidden.draw_auc(scores["first_label"], truth)
    row = hidden.tabulate_following(tested, aside).set_index("source").loc["state_minus_first_label"]
    assert row[["value", "low", "high"]].tolist() == pytest.approx(summarise(draws))
    assert 0.3 < row["low"] < row["value"] <= row["high"] < 0.7


def test_following_is_asked_where_a_label_was_said():
    tested, aside = sample(100, 0, later=1), sample(200, 1, later=1)
    tested.said[:10], tested.first[:10] = False, False
    scores, truth = hidden.probe_following(tested, aside)
    assert len(truth) == 90 and {len(each) for each in scores.values()} == {90}


def test_following_has_no_score_where_all_go_one_way():
    tested, aside = sample(50, 0), sample(60, 1)
    aside.said[:] = aside.first
    table = hidden.tabulate_following(tested, aside)
    assert table["value"].isna().all() and set(table["source"]) == {*hidden.SOURCES, "state_minus_first_label"}


def test_43000_documents_take_bounded_memory_and_no_loop_over_them(monkeypatch):
    """With 24 dimensions and fewer resamples: memory grows with the dimensions of a layer, and not with resamples."""
    for name in ("draw_f1", "draw_auc"):
        monkeypatch.setattr(hidden, name, partial(getattr(hidden, name), resamples=100))

    def read(tested, aside):
        return hidden.tabulate_sets(tested, aside, controls=1), hidden.tabulate_following(tested, aside)

    small, large = ((sample(documents, 0), sample(430, 1)) for documents in (430, 43_000))
    read(*small)
    # A bootstrap draws in chunks of bounded memory: some calls more, against 43,000 documents.
    assert calls(lambda: read(*large)) < calls(lambda: read(*small)) + 2_000
    tracemalloc.start()
    sets, following = read(*large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 2**20 and set(sets["n"]) == set(following["n"]) == {43_000}
    assert values(sets)["pred"] > 0.6


# -- traces --------------------------------------------------------------------------------------------------------
def write(folder, kind="tested", documents=40, silent=0, views=("list",), **changed):
    """Writes a trace whose states tell the first label; its first `silent` documents have no label step."""
    reserve = kind == "reserve"
    made = sample(documents, int(reserve))
    ids = [f"{kind}{i}" for i in range(documents)] if "ids" not in changed else changed.pop("ids")
    head = dict(model="tiny", revision="1", corpus="foxes", split="train" if reserve else "dev", labels=LABELS)
    head |= dict(sample="reserve" if reserve else "all", single_label=False, plan={"seed": 0}, form="json", dtype="x")
    head |= dict(conventions="ours", pair_order="plan", family="P", views=list(views))
    writer = Writer(folder, head | changed)
    rows = {"documents": [], "answers": [], "steps": []}
    for i, name in enumerate(ids):
        said = sorted(np.flatnonzero(made.said[i]), key=lambda label, i=i: not made.first[i, label])
        said = [LABELS[label] for label in said] if i >= silent else []
        gold, votes = made.gold[i].tolist(), [np.nan] * 3
        rows["documents"].append({"id": name, "text": name, "gold": gold, "votes": votes, "annotators": 0})
        rows["answers"].append({"document": name, "variant": "list", "said": said, "status": "ok"})
        for step, label in enumerate(said, start=1):
            logits = [float(label == each) for each in [*LABELS, "none"]]
            rows["steps"].append(dict(document=name, variant="list", step=step, label=label, logits=logits))
    states = made.states.astype(np.float32)
    states[:silent] = np.nan
    writer.add("documents", 0, {"documents": rows["documents"]})
    writer.add("list", 0, {"answers": rows["answers"], "steps": rows["steps"]}, np.ascontiguousarray(states[:, -1]))
    if "hidden" in views:
        writer.add("hidden", 0, {"failures": []}, states)
    writer.finish()
    return Trace(folder)


def test_gather_reads_what_was_said_and_leaves_out_documents_without_a_label_step(tmp_path):
    trace = write(tmp_path, silent=3, views=("list", "hidden"))
    made, found = sample(40, 0), gather(trace)
    assert len(found) == 37 and found.states.shape == (37, 1, 24)
    assert np.allclose(found.states[:, 0], made.states[3:, -1], atol=1e-6)
    assert (found.said == made.said[3:]).all() and (found.first == made.first[3:]).all()
    assert (found.gold == made.gold[3:]).all()
    assert np.exp(found.distributions).sum(axis=1) == pytest.approx(np.ones(37))
    assert gather(trace, layers=True).states.shape == (37, 2, 24)


def test_pairs_are_of_one_model_and_plan(tmp_path):
    tested, aside = write(tmp_path / "a"), write(tmp_path / "b", "reserve")
    other = write(tmp_path / "c", "reserve", plan={"seed": 1})
    stranger = write(tmp_path / "d", corpus="hares")
    pairs, alone = pair_up([stranger, other, tested, aside])
    assert [(a.folder, b.folder) for a, b in pairs] == [(tested.folder, aside.folder)]
    assert alone["trace"].tolist() == [str(stranger.folder)] and "set aside" in alone["reason"][0]
    assert "differ in plan" in pair_up([tested, other])[1]["reason"][0]
    assert pair_up([])[0] == []


def test_pairs_share_no_document_and_have_states(tmp_path):
    tested = write(tmp_path / "a", ids=[f"x{i}" for i in range(40)])
    both = write(tmp_path / "b", "reserve", ids=["x3", *(f"y{i}" for i in range(39))])
    assert "1 documents are tested and set aside, such as x3" in pair_up([tested, both])[1]["reason"][0]
    mute = write(tmp_path / "c", "reserve", silent=21)
    assert "19 documents of" in pair_up([tested, mute])[1]["reason"][0]


def test_of_two_pairs_the_one_with_all_layers_is_taken(tmp_path):
    plain = [write(tmp_path / "a"), write(tmp_path / "b", "reserve")]
    layered = [
        write(tmp_path / name, kind, views=("list", "hidden")) for name, kind in (("c", "tested"), ("d", "reserve"))
    ]
    for order in ([*plain, *layered], [*layered, *plain]):
        ((tested, aside),), alone = pair_up(order)
        assert (tested.folder, aside.folder) == (layered[0].folder, layered[1].folder) and alone.empty
    assert hidden.has_layers(layered) and not hidden.has_layers([plain[0], layered[1]])


def test_documents_that_are_all_in_another_pair_are_probed_once(tmp_path):
    all_of_them = write(tmp_path / "a", ids=[f"x{i}" for i in range(40)])
    part = write(tmp_path / "b", documents=25, ids=[f"x{i}" for i in range(25)], views=("list", "hidden"))
    aside = write(tmp_path / "c", "reserve", ids=[f"y{i}" for i in range(40)])
    for order in ([all_of_them, part, aside], [part, aside, all_of_them]):
        ((tested, _),), alone = pair_up(order)
        assert tested.folder == all_of_them.folder and alone.empty
    elsewhere = write(tmp_path / "d", documents=25, ids=["z0", *(f"x{i}" for i in range(24))])
    assert len(pair_up([all_of_them, elsewhere, aside])[0]) == 2


def test_pairs_that_asked_in_other_ways_are_kept_apart_by_name(tmp_path):
    traces = [write(tmp_path / "a"), write(tmp_path / "b", "reserve")]
    assert [name["documents"] for name in name_pairs(pair_up(traces)[0])] == ["dev, all"]
    traces += [write(tmp_path / "c", form="comma"), write(tmp_path / "d", "reserve", form="comma")]
    pairs, _ = pair_up(traces)
    assert [name["documents"] for name in name_pairs(pairs)] == ["dev, all, form json", "dev, all, form comma"]


# -- figures -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tables(one_strength):
    tested, aside = sample(80, 0, later=0.5), sample(120, 1, later=0.5)
    name = {"model": "tiny $5 model", "corpus": "mfrc"}
    sets = hidden.tabulate_sets(tested, aside, [0, 1], controls=1).assign(**name)
    return SimpleNamespace(
        sets=sets, last=sets[sets["layer"] == 1], following=hidden.tabulate_following(tested, aside).assign(**name)
    )


def words(fig):
    return " | ".join(text.get_text() for text in fig.findobj(lambda each: hasattr(each, "get_text")))


def test_figures_show_each_corpus_and_how_many_documents(tables, tmp_path):
    both = pd.concat([tables.last, tables.last.assign(corpus="semeval")])
    fig = reporting.hidden.probe_dots(both)
    assert len(fig.axes) == 2 and "MFRC\nn = 80, trained on 120" in words(fig) and "SemEval" in words(fig)
    for each, name in (
        (fig, "probes"),
        (reporting.hidden.layer_lines(tables.sets), "layers"),
        (reporting.hidden.following_dots(tables.following), "following"),
    ):
        drawing.save(each, name, tmp_path)
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
        alt = json.loads((tmp_path / f"{name}.json").read_text())["alt"]
        assert "(tiny $5 model)" in alt and "nan" not in alt
    assert fig.alt.count(" on mfrc ") == fig.alt.count(" on semeval ") > 2


def test_figures_name_the_models(tables):
    fig = reporting.hidden.probe_dots(pd.concat([tables.last, tables.last.assign(model="meta/large")]))
    twice = pd.concat([tables.last.assign(documents=each) for each in ("paper", "dev, all")])
    assert "MFRC (paper)" in words(reporting.hidden.probe_dots(twice)) and "MFRC (dev, all)" in words(
        reporting.hidden.probe_dots(twice)
    )
    assert r"tiny \$5 model" in words(fig) and "| large\nMFRC" in words(fig) and len(fig.axes) == 2


def test_a_measure_that_is_not_there_says_so(tables):
    holes = tables.last.copy()
    holes.loc[holes["measure"].str.contains("2plus"), ["value", "low", "high"]] = np.nan
    assert "no second label to find" in words(reporting.hidden.probe_dots(holes))
    told = words(reporting.hidden.layer_lines(holes)).split(" | ")
    assert "Pred 2+: nothing to find" in told, told
    assert "nothing to find" not in words(reporting.hidden.layer_lines(tables.sets))
    whole = tables.last.assign(corpus="semeval")
    assert "not defined" in words(
        reporting.hidden.probe_dots(pd.concat([whole, holes[~holes["measure"].str.contains("2plus")]]))
    )


def test_dots_stand_at_the_values(tables):
    axis = reporting.hidden.probe_dots(tables.last).axes[0]
    at = sorted(float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata()) == 1)
    beside = ["control_gold", "control_pred", "control_pred_2plus", "first_label_2plus"]
    shown = values(tables.last)[[*reporting.hidden.MEASURES, *beside]]
    assert at == pytest.approx(sorted(shown))


def test_too_little_to_draw_is_said_or_refused(tables):
    for draw, table in ((reporting.hidden.probe_dots, tables.last), (reporting.hidden.layer_lines, tables.sets)):
        with pytest.raises(ValueError, match="no rows"):
            draw(table[:0])
        with pytest.raises(ValueError, match="lacks the columns .'value'."):
            draw(table.drop(columns="value"))
    assert "too few to tell" in words(reporting.hidden.following_dots(tables.following.assign(follow=3)))
    assert "too few to tell" not in words(reporting.hidden.following_dots(tables.following))
    with pytest.raises(ValueError, match="nothing to draw"):
        reporting.hidden.following_dots(tables.following.assign(value=np.nan))


def test_a_claim_about_few_second_labels_cannot_be_told(tables):
    row = tables.last.set_index("measure").loc["pred_minus_2plus"]
    statistic = claims.Statistic("C7", "Pred minus Pred 2+", 0)
    assert claims.judge(statistic, "m", "c", row.value, row.low, row.high, 9, "", 5)["verdict"] == "cannot be told here"


def test_different_answers_are_those_of_the_documents_counted():
    """Four lists at most: each of two first labels alone, or with the third label behind it."""
    tested, aside = sample(200, 0), sample(300, 1)
    table = hidden.tabulate_sets(tested, aside, controls=1).set_index("measure")
    both, later = answers.count_different(tested.lists), answers.count_different(tested.lists[tested.said[:, 2]])
    assert 3.9 < both <= 4 and 1.9 < later <= 2
    assert table.loc["pred", "different"] == both and table.loc["pred_2plus", "different"] == later
    assert table.loc["pred_minus_2plus", "different"] == later  # of both sides the fewer
    following = hidden.tabulate_following(tested, aside)
    fewest = min(later, answers.count_different(tested.lists[~tested.said[:, 2]]))
    assert set(following["different"]) == {fewest}
