"""Before and after: quantities by hand, differences paired, seeds and documents resampled together, verdicts."""

import numpy as np
import pandas as pd
import pytest

from mlutils import metrics
from mlutils.readouts import changes, steps
from tests.hand_made import write_lists

LABELS = ("anger", "fear", "joy")


def write(folder, model, lists, logits, gold=None, shots=10, status="ok", ids=None, votes=True, **changed):
    """A trace of one list a document; logits: one row (L + 1) a label step, in the order of the documents."""
    names = ids or [f"d{i}" for i in range(len(lists))]
    gold = np.zeros((len(lists), 3), bool) if gold is None else np.asarray(gold, bool)
    common = dict(corpus="foxes", split="test", sample="all", single_label=False, views=["list"], pair_order="plan")
    common |= {"labels": list(LABELS), "conventions": "ours", "seed": 0, "model": model, "shots": shots}
    share = gold.astype(float) if votes else np.full(gold.shape, np.nan)
    documents = [
        {"id": name, "text": "", "gold": g.tolist(), "votes": v.tolist(), "annotators": 3 if votes else 0}
        for name, g, v in zip(names, gold, share, strict=True)
    ]
    return write_lists(folder, common | changed, documents, lists, logits, status)


def top(*probabilities):
    """Returns logits of steps at which joy has these probabilities, and the others share the rest."""
    p = np.asarray(probabilities, float)[:, None]
    return np.log(np.hstack([(1 - p) / 3, (1 - p) / 3, p, (1 - p) / 3]))


def one(folder, model, probabilities, **changed):
    """A trace in which every document is answered joy, with these probabilities."""
    return write(folder / f"{model}{changed.get('shots', '')}", model, [["joy"]] * len(probabilities),
                 top(*probabilities), **changed)  # fmt: skip


def pick(table, quantity, **values):
    rows = table[table["quantity"] == quantity]
    for name, value in values.items():
        rows = rows[rows[name] == value]
    (row,) = rows.to_dict("records")
    return row


def test_quantities_by_hand(tmp_path):
    """d0 says joy, anger, fear (second labels fear, joy, anger); d1 anger, joy; d2 none; d3 nothing."""
    logits = [[2, 3, 6, 1], [5, 1, 2.5, 1.5], [0.5, 9, 0.4, 0.1], [3, 2, 0, 0], [0, 0, 4, 0], [1, 1, 2, 6]]
    lists = [["joy", "anger", "fear"], ["anger", "joy"], ["none"], []]
    gold = [[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]]
    trace = write(tmp_path / "t", "m", lists, logits, gold)
    sums, counts = changes.count(trace)
    value = (sums.sum() / counts.sum().where(counts.sum() > 0)).to_dict()
    table = steps.tabulate(trace)
    assert value["top1_first"] == pytest.approx(table.query("step == 1")["first"].mean())
    assert value["top1_later"] == pytest.approx(table.query("step > 1")["first"].mean())
    assert value["entropy_later"] == pytest.approx(table.query("step > 1")["entropy"].mean())
    assert table["second_label"].tolist()[:2] == ["fear", "joy"]
    assert value["second_next"] == 0 and counts["second_next"].tolist() == [2, 1, 0, 0]
    assert sums["second_never"].tolist() == [1, 1, 0, 0]  # fear is said later; joy was said before; fear never
    assert value["second_never"] == pytest.approx(2 / 3)
    assert value["alphabetical"] == 0.5 and counts["alphabetical"].tolist() == [1, 1, 0, 0]
    assert value["several"] == 0.5 and value["labels"] == 5 / 4 and value["unread"] == 0
    assert value["micro_f1"] == pytest.approx(2 * 3 / (5 + 5))
    assert sums["f1 hard_predictions"].tolist() == pytest.approx([0.8, 2 / 3, 1, 0])
    assert sums["l1 hard_predictions"].tolist() == pytest.approx([1, 1, 0, 2], abs=1e-6)
    assert "nll unary_breakdown" not in sums  # unary questions were not asked
    unasked = {f"{metric} unary_breakdown" for metric in ("nll", "l1", "f1")}
    assert set(sums) | unasked == set(changes.QUANTITIES)  # each has a title
    released, _ = changes.count(trace, "released")
    assert released["second_never"].tolist() == [0, 1, 0, 0]  # joy was said before


def test_without_votes_there_is_f1_against_gold_alone(tmp_path):
    trace = write(
        tmp_path / "t", "m", [["joy"], []], top(0.5), [[0, 0, 1], [1, 0, 0]], votes=False, status="not a list"
    )
    sums, counts = changes.count(trace)
    assert not [name for name in sums if name.startswith(("nll", "l1"))]
    assert sums["f1 hard_predictions"].tolist() == [1, 0] and (sums["unread"] == counts["unread"]).all()


def test_differences_are_paired_by_document(tmp_path):
    base = np.linspace(0.4, 0.8, 30)
    traces = [one(tmp_path, "m", base), one(tmp_path, "m+sft-foxes", base + 0.1)]
    levels, differences = changes.compare(traces)
    row = pick(levels, "top1_first", tuning="base")
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(metrics.bootstrap(base), abs=2e-3)
    assert row["n"] == 30 and row["seed"] == "" and row["shots"] == 10 and row["documents"] == "test, all"
    row = pick(differences, "top1_first")
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert (row["tuning"], row["tuned_on"], row["seed"], row["seeds"], row["n"]) == ("sft", "foxes", "0", 1, 30)
    same = pick(differences, "f1 hard_predictions")
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    later = pick(differences, "second_next")
    assert later["n"] == 0 and np.isnan(later["mean"]) and np.isnan(later["low"])


def test_a_difference_has_no_more_documents_than_either_side(tmp_path):
    lists = [["joy"]] * 4 + [[]] * 8  # the base model says nothing about eight documents
    traces = [write(tmp_path / "m", "m", lists, top(*[0.5] * 4)), one(tmp_path, "m+sft-foxes", [0.6] * 12)]
    levels, differences = changes.compare(traces)
    assert pick(levels, "top1_first", tuning="sft")["n"] == 12 and pick(differences, "top1_first")["n"] == 4


def test_three_seeds_are_resampled_with_documents(tmp_path):
    traces = [one(tmp_path, "m", [0.5] * 12)]
    traces += [one(tmp_path, f"m+soft-foxes{s}", [p] * 12) for s, p in (("", 0.6), ("-seed1", 0.7), ("-seed2", 0.8))]
    levels, differences = changes.compare(traces)
    row = pick(levels, "top1_first", tuning="soft", seed="all")
    # All three draws are the lowest seed in 1 of 27 resamples, which is more than 2.5 %.
    assert (row["mean"], row["low"], row["high"], row["seeds"]) == pytest.approx((0.7, 0.6, 0.8, 3))
    row = pick(differences, "top1_first", seed="all")
    assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx((0.2, 0.1, 0.3, 12))
    assert set(changes.final(differences)["seed"]) == {"all"} and set(differences["seed"]) == {"0", "1", "2", "all"}
    _, two = changes.compare(traces[:3])
    assert set(changes.final(two)["seed"]) == {"0", "1"}


def test_the_spread_of_documents_and_seeds_adds_up(tmp_path):
    rng = np.random.default_rng(0)
    spread = rng.uniform(-0.1, 0.1, 40)
    names = [f"m+sft-foxes{suffix}" for suffix in ("", "-seed1", "-seed2")]
    rows = np.array([0.5, 0.6, 0.7])[:, None] + spread + rng.uniform(-0.02, 0.02, (3, 40))
    levels, _ = changes.compare([one(tmp_path, name, row) for name, row in zip(names, rows, strict=True)])
    row = pick(levels, "top1_first", seed="all")
    drawn = []  # the slow way: one resample at a time
    for _ in range(4000):
        documents, seeds = rng.integers(40, size=40), rng.integers(3, size=3)
        drawn.append(rows[seeds][:, documents].mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.012)
    assert row["mean"] == pytest.approx(rows.mean())


def test_shares_of_zero_have_an_exact_interval(tmp_path):
    levels, _ = changes.compare([one(tmp_path, "m", [0.5] * 20)])
    row = pick(levels, "several")
    assert (row["mean"], row["low"]) == (0, 0) and row["high"] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_tuned_model_is_compared_at_the_same_demonstrations_on_shared_documents(tmp_path):
    base = one(tmp_path, "m", [0.5] * 20)
    few = one(tmp_path, "m+sft-foxes", [0.6] * 15, shots=0)
    levels, differences = changes.compare([base, few])
    assert differences.empty and set(levels["n"]) >= {15} and levels["n"].max() == 15
    zero = one(tmp_path, "m", [0.3] * 20, shots=0)
    row = pick(changes.compare([base, zero, few])[1], "top1_first")
    assert row["mean"] == pytest.approx(0.3) and row["shots"] == 0 and row["n"] == 15
    other = one(tmp_path, "m+soft-foxes", [0.6] * 2, ids=["x", "y"])
    with pytest.raises(ValueError, match="share no document"):
        changes.compare([base, other])


def test_traces_are_chosen_or_refused(tmp_path):
    large, small = one(tmp_path, "m", [0.5] * 6), write(tmp_path / "s", "m", [["joy"]] * 3, top(0.5, 0.5, 0.5))
    aside = write(tmp_path / "aside", "m", [["joy"]], top(0.5), sample="reserve")
    single = write(tmp_path / "single", "n", [["joy"]], top(0.5), single_label=True)
    unasked = write(tmp_path / "unasked", "o", [["joy"]], top(0.5), views=["unary"])
    assert changes.choose([small, large, aside, single, unasked]) == [large]
    small_too = write(tmp_path / "s2", "m", [["joy"]] * 3, top(0.5, 0.5, 0.5))
    assert changes.choose([small, small_too, large]) == [large]
    again = write(tmp_path / "again", "m", [["joy"]] * 6, top(*[0.5] * 6))
    with pytest.raises(ValueError, match="give one of them"):
        changes.choose([large, again])


def test_tables_2_and_5_have_base_models_and_sft(tmp_path):
    names = ["m", "m+sft-foxes", "m+sft-foxes-seed1", "m+rl_f1-foxes", "m+sft-foxes+rl_f1-foxes", "m+sft_icl-foxes"]
    traces = {(name, k): one(tmp_path, name, [0.5], shots=k) for name in names for k in (0, 10)}
    plain, tuned = changes.separate(list(traces.values()))
    assert plain == [traces["m", 10]]
    assert list(tuned) == [f"m+{kind}-foxes, {k} shots" for kind in ("sft", "sft_icl") for k in (0, 10)]
    assert tuned["m+sft-foxes, 0 shots"] is traces["m+sft-foxes", 0]


def difference(tuning, quantity, mean, low, high, n=50, shots=10, seed="all", documents="test, all", different=6.0):
    row = dict(corpus="foxes", documents=documents, base="m", tuning=tuning, tuned_on="foxes", shots=shots, seed=seed)
    return row | dict(seeds=3, quantity=quantity, mean=mean, low=low, high=high, n=n, different=different)


def test_verdicts_on_tuned_models():
    rows = [
        difference("sft", "top1_first", 0.1, 0.05, 0.2),
        difference("sft", "top1_first", -0.4, -0.5, -0.3, shots=0),  # fewer demonstrations do not decide
        difference("sft", "top1_first", -0.4, -0.5, -0.3, seed="0"),  # nor does a single seed where there are three
        difference("sft", "entropy_first", 0.2, 0.1, 0.3),
        difference("sft", "f1 hard_predictions", 0.1, -0.1, 0.3),
        difference("sft", "nll compare_to_none", 2, 1, 3, n=9),
        difference("sft", "labels", 2, 1, 3),
        difference("rl_f1", "top1_first", 0.1, 0.05, 0.2, seed="0"),
    ]
    found = pd.DataFrame(changes.judge(pd.DataFrame(rows, columns=changes.COLUMNS)))
    assert found["claim"].tolist() == ["C1", "C10", "C12", "C12", "C12"] * 2
    told = "cannot be told here"
    assert found["verdict"].tolist() == ["holds", "does not hold", told, told, told, "holds", told, told, told, told]
    assert found["n"].tolist() == [50, 50, 50, 9, 0, 50, 0, 0, 0, 0]  # what nobody measured is a row without a case
    assert found["model"].tolist() == ["m+sft-foxes, 10 shots"] * 5 + ["m+rl_f1-foxes, 10 shots, seed 0"] * 5
    assert found["different"].fillna(0).tolist() == [6, 6, 0, 0, 0, 6, 0, 0, 0, 0]  # C12 scores documents
    assert changes.judge(pd.DataFrame(columns=changes.COLUMNS)) == []
    few = pd.DataFrame([row | {"different": 4.9} for row in rows[:1]], columns=changes.COLUMNS)
    assert changes.judge(few)[0]["verdict"] == told and changes.judge(few.assign(different=5))[0]["verdict"] == "holds"


def test_different_answers_are_those_of_the_model_with_the_fewest(tmp_path):
    """The base model says three lists equally often, the tuned one joy alone; a later step only the base model has."""
    lists = [["joy"], ["fear"], ["joy", "fear"]] * 4
    base = write(tmp_path / "m", "m", lists, top(*[0.5] * 16))
    levels, differences = changes.compare([base, one(tmp_path, "m+sft-foxes", [0.6] * 12)])
    assert pick(levels, "top1_first", tuning="base")["different"] == 3
    assert pick(levels, "top1_first", tuning="sft")["different"] == 1 == pick(differences, "top1_first")["different"]
    assert pick(levels, "top1_later", tuning="base")["different"] == 1  # of the four documents with one
    assert np.isnan(pick(levels, "f1 hard_predictions", tuning="base")["different"])
    assert np.isnan(pick(levels, "top1_later", tuning="sft")["different"])


def test_labels_said_again_are_no_steps_unless_kept(tmp_path):
    trace = write(tmp_path / "t", "m", [["joy", "joy"]] * 3, top(*[0.5, 0.9] * 3))
    counts = [changes.count(trace, repeats=repeats)[1].sum() for repeats in ("excluded", "kept")]
    assert [each["top1_later"] for each in counts] == [0, 3] == [each["second_next"] for each in counts]


def test_entropy_along_the_ladder(tmp_path):
    sizes = {"xs": 10**5, "s": 10**6, "m": 10**7}
    probabilities = {"xs": 0.25, "s": 0.5, "m": 0.9}  # of joy; the other labels and none share the rest
    said = [*LABELS, "none", "joy"] * 3
    said[4::5] = [["joy", "fear"]] * 3  # five lists, equally often
    lists = [[label] if isinstance(label, str) else label for label in said]
    traces = [write(tmp_path / name, name, lists, top(*[p] * 18), shots=10) for name, p in probabilities.items()]
    entropy, ranking = changes.climb(traces, sizes, list(sizes))
    bits = [-(p * np.log2(p) + (1 - p) * np.log2((1 - p) / 3)) for p in probabilities.values()]
    assert entropy["value"] == pytest.approx((bits[2] - bits[0]) / 2) and entropy["verdict"] == "holds"
    assert entropy["model"] == "xs to m, 10 shots" and entropy["n"] == 15 and entropy["different"] == 5
    assert ranking["n"] == 3 and ranking["verdict"] == "cannot be told here"
    assert changes.climb(traces, {"xs": 10**5}, list(sizes)) == [] and changes.climb(traces, sizes, []) == []
    alone = [one(tmp_path, "xs", [0.5] * 15, shots=20), *traces]  # the demonstrations that most models share
    assert changes.climb(alone, sizes, list(sizes))[0]["model"] == "xs to m, 10 shots"


def test_sizes_are_of_base_models():
    records = [
        {"notebook": "10_trace", "model": {"name": "m+sft-foxes", "parameters": 7}},
        {"notebook": "10_trace", "model": {"name": "old"}},
        {"notebook": "06_finetune", "model": {"name": "n", "parameters": 3}},
    ]
    assert changes.find_sizes(records) == {"m": 7}
