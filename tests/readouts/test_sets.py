"""Set marginals: bounds that contain the value of brute-force enumeration, on tables, random generators and a model."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from mlutils.readouts import sets
from mlutils.sets import Expansion
from mlutils.tracing import prompts, vocabulary
from mlutils.tracing.answers import format_answer
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.sets import SetsView


def generator(labels, sharpness, stop, seed):
    """Returns a function prefix -> (p_next, p_stop), random and always the same for a prefix."""

    def step(prefix):
        rng = np.random.default_rng([seed, len(prefix), *prefix])
        return softmax(sharpness * rng.normal(size=labels + 1)), float(np.clip(stop + rng.uniform(-0.2, 0.2), 0, 1))

    return step


def asking(step, asked=None):
    def ask(prefixes):
        if asked is not None:
            asked.append(list(prefixes))
        return [step(prefix) for prefix in prefixes]

    return ask


def enumerate_sets(step, labels):
    """Returns P(set) of lists of distinct labels, one list after the other: no tree, no open mass."""
    found = {frozenset(): step(())[0][-1]}
    for size in range(1, labels + 1):
        for order in permutations(range(labels), size):
            mass = 1.0
            for k in range(size + 1):
                following, stop = step(order[:k])
                if k:
                    rest = np.array([0 if i in order[:k] else following[i] for i in range(labels)])
                    stop = 1.0 if size == k == labels else stop
                    mass *= stop if k == size else (1 - stop) * rest[order[k]] / rest.sum()
                else:
                    mass *= following[order[0]]
            found[frozenset(order)] = found.get(frozenset(order), 0.0) + mass
    return found


def per_label(sets, labels):
    return np.array([sum(mass for said, mass in sets.items() if label in said) for label in range(labels)])


# Label 0 first with 0.6, label 1 with 0.3, none with 0.1; after 0: stop 0.5, else 1; after 1: stop.
TABLE = {
    (): ([0.6, 0.3, 0.1], 0.7),
    (0,): ([0.0, 1.0, 0.0], 0.5),
    (1,): ([1.0, 0.0, 0.0], 1.0),
}


def test_a_table_by_hand():
    asked = []
    found = sets.expand(asking(TABLE.__getitem__, asked), 2, tolerance=0.001)
    expected = {frozenset(): 0.1, frozenset({0}): 0.3, frozenset({1}): 0.3, frozenset({0, 1}): 0.3}
    assert found.sets == pytest.approx(expected)
    assert found.low == pytest.approx([0.6, 0.6]) and found.high == pytest.approx([0.6, 0.6])
    assert found.size == pytest.approx((1.2, 1.2)) and found.unresolved == 0
    assert asked == [[()], [(0,), (1,)]]


def test_after_one_question_labels_said_first_are_certain():
    found = sets.expand(asking(TABLE.__getitem__), 2, tolerance=0.01, most=1)
    assert found.asked == found.waves == 1
    assert found.low == pytest.approx([0.6, 0.3]) and found.high == pytest.approx([0.9, 0.9])
    assert found.size == pytest.approx((0.9, 1.8))
    assert found.set_bounds({0, 1}) == pytest.approx((0.0, 0.9))
    assert found.set_bounds([1]) == pytest.approx((0.0, 0.3)) and found.set_bounds(()) == pytest.approx((0.1, 0.1))


def test_repeats_kept_add_nothing_and_excluded_give_their_share_away():
    step = {(): ([0.5, 0.5, 0.0], 0.0)}.get
    after = lambda prefix: step(prefix) or ([0.5, 0.25, 0.25], 0.0)  # noqa: E731
    # Kept: label 0 first, then again and again, until label 1 or none: they are as likely.
    kept = sets.expand(asking(after), 2, tolerance=1e-6, most=10_000)
    assert kept.low[1] == pytest.approx(0.5 + 0.5 / 2, abs=1e-6)
    excluded = sets.expand(asking(after), 2, tolerance=0, repeats="excluded")
    assert excluded.sets == pytest.approx({frozenset({0, 1}): 1.0})
    capped = sets.expand(asking(after), 2, tolerance=0, longest=2)
    both, one = 0.5 * 0.25 + 0.5 * 0.5, 0.5 * 0.75
    assert capped.sets == pytest.approx({frozenset({0, 1}): both, frozenset({0}): one, frozenset({1}): 1 - both - one})


@given(st.integers(1, 4), st.floats(0, 6), st.floats(0, 1), st.integers(0, 10_000), st.floats(0.001, 0.5))
@settings(max_examples=60, deadline=None)
def test_bounds_contain_the_enumerated_values(labels, sharpness, stop, seed, tolerance):
    step = generator(labels, sharpness, stop, seed)
    true = enumerate_sets(step, labels)
    exact = per_label(true, labels)
    assert sum(true.values()) == pytest.approx(1)
    whole = sets.expand(asking(step), labels, tolerance=0, repeats="excluded")
    assert whole.sets == pytest.approx({said: mass for said, mass in true.items() if mass > 0})
    assert sum(whole.sets.values()) == pytest.approx(1) and whole.unresolved == 0
    for most in (1, 3, 1000):
        found = sets.expand(asking(step), labels, tolerance, most, repeats="excluded")
        assert (found.low <= exact + 1e-9).all() and (exact <= found.high + 1e-9).all()
        assert found.size[0] <= exact.sum() + 1e-9 and exact.sum() <= found.size[1] + 1e-9
        assert sum(found.sets.values()) + found.unresolved == pytest.approx(1)
        for said, mass in true.items():
            low, high = found.set_bounds(said)
            assert low <= mass + 1e-9 and mass <= high + 1e-9
        assert found.asked <= most
    assert (found.high - found.low).max() <= tolerance + 1e-9


@given(st.integers(1, 4), st.floats(0, 3), st.floats(0.3, 1), st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_bounds_with_repeats_contain_the_shares_of_samples(labels, sharpness, stop, seed):
    step = generator(labels, sharpness, stop, seed)
    found = sets.expand(asking(step), labels, tolerance=0.05, most=200)
    rng, counts, n = np.random.default_rng(seed), np.zeros(labels), 400
    for _ in range(n):
        said = ()
        while True:
            following, stops = step(said)
            if said and rng.random() < stops:
                break
            label = rng.choice(labels + 1, p=following)
            if label == labels:
                break
            said += (int(label),)
        counts[list(set(said))] += 1
    slack = 5 * np.sqrt(0.25 / n)
    assert (found.low - slack <= counts / n).all() and (counts / n <= found.high + slack).all()


@pytest.mark.parametrize("repeats", ["kept", "excluded"])
@pytest.mark.parametrize("sharpness", [0.5, 2.0, 5.0])
def test_waves_ask_what_best_first_search_asks(repeats, sharpness):
    step = generator(5, sharpness, 0.5, seed=3)
    asked = []
    found = sets.expand(asking(step, asked), 5, tolerance=0.05, most=100_000, repeats=repeats)
    flat = {prefix for wave in asked for prefix in wave}
    assert len(flat) == found.asked and len(asked) == found.waves < found.asked / 2 + 3
    # One by one: the heaviest list first, until all bounds are as close.
    slow = Expansion(5, 0.05, 100_000, repeats)
    order = set()
    while ((bounds := slow.result()).high - bounds.low).max() > 0.05:
        heaviest = max(slow.open, key=slow.open.get)
        slow.take([heaviest], [step(heaviest)])
        order.add(heaviest)
    assert flat <= order


def test_a_budget_goes_to_the_heaviest_lists():
    step = generator(8, 1.0, 0.4, seed=1)
    asked = []
    found = sets.expand(asking(step, asked), 8, tolerance=0.001, most=40)
    assert found.asked == 40 and len(asked) <= 7
    assert max(map(len, asked[2:])) <= 20
    for wave in asked:
        assert len(set(wave)) == len(wave)


def test_lists_without_an_answer_stay_open():
    step = generator(3, 1.0, 0.5, seed=0)
    found = sets.expand(lambda wave: [None if 2 in p else step(p) for p in wave], 3, 0, repeats="excluded")
    whole = sets.expand(asking(step), 3, 0, repeats="excluded")
    assert set(map(len, found.open)) <= {1, 2, 3} and all(2 in prefix for prefix in found.open)
    assert (found.low <= whole.low + 1e-12).all() and (whole.high <= found.high + 1e-12).all()


@pytest.mark.parametrize("answer, message", [
    (([0.5, 0.5], 0.0), "shape"), (([0.5, 0.5, 0.5], 0.0), "no distribution"), (([np.nan, 0.5, 0.5], 0), "no distribu"),
    (([np.inf, 0, 0], 0.0), "no distribution"),
])  # fmt: skip
def test_what_is_no_distribution_is_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        sets.expand(lambda wave: [answer for _ in wave], 2)


def test_bad_settings_and_answers_are_refused():
    uniform = ([1 / 3, 1 / 3, 1 / 3], np.nan)
    with pytest.raises(ValueError, match=r"p_stop after \(\d,\) must be in"):
        sets.expand(lambda wave: [uniform for _ in wave], 2)
    with pytest.raises(ValueError, match="give one a list"):
        sets.expand(lambda wave: [], 2)
    with pytest.raises(ValueError, match="kept, excluded"):
        sets.expand(lambda wave: [], 2, repeats="merged")
    with pytest.raises(ValueError, match="tolerance -1"):
        sets.expand(lambda wave: [], 2, tolerance=-1)
    with pytest.raises(ValueError, match="never end"):
        sets.expand(lambda wave: [], 2, tolerance=0, most=np.inf)


# -- the view ----------------------------------------------------------------------------------------------------------
def view(llama, corpus, form="json", conventions="ours", **options):
    asked = Prompting(
        corpus, corpus, draw(corpus, shots=4), prompts.template("foxes", form=form), conventions=conventions
    )
    return SetsView(llama, asked, **options)


def told(nodes, document):
    nodes = pd.DataFrame(nodes)
    return nodes[nodes["document"] == document]


@pytest.mark.parametrize("form, conventions", [
    ("json", "ours"), ("json", "released"), ("comma", "ours"), ("the", "ours"), ("comma", "released"),
])  # fmt: skip
def test_nodes_are_what_plain_prompts_give(llama, corpus, form, conventions):
    asked = view(llama, corpus, form, conventions, most=12)
    tables, _ = asked.ask([3, 17])
    assert not tables["failures"]
    tokenizer = llama.tokenizer
    strings = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    for row in (3, 17):
        nodes = told(tables["nodes"], f"d{row}")
        assert 8 < len(nodes) <= 12 and nodes["prefix"].iloc[0] == []
        prompt = asked.prompting.list_prompt(row)
        for node in list(nodes.itertuples())[:6]:
            said = list(node.prefix)
            written = format_answer([*said, "joy"], form)
            head = prompt + asked.gap + written[: written.rindex("joy")].rstrip(" ")  # a space belongs to the label
            share = plain(llama, head)
            for logit, tokens in zip(node.logits, asked.label_tokens.first, strict=True):
                assert logit == pytest.approx(share[tokens].max(), abs=2e-4)
            if not said:
                assert np.isnan(node.goes_on)
                continue
            end = written[: written.rindex("joy")].rindex(said[-1]) + len(said[-1])
            after = softmax(plain(llama, prompt + asked.gap + written[:end]))
            going, stopping = {"json": ('",', '"]'), "comma": (",", "\n"), "the": (" and", ".")}[form]

            def begins(text, whole, common):
                return len(text) > common and (text.startswith(whole) or whole.startswith(text))

            common = 1 if form == "json" else 0
            go = sum(p for p, s in zip(after, strings, strict=True) if begins(s, going, common))
            stop = sum(p for p, s in zip(after, strings, strict=True) if begins(s, stopping, common))
            if form == "json":
                quotes = [i for i, s in enumerate(strings) if s == '"']
                second = softmax(plain(llama, prompt + asked.gap + written[:end] + '"'))
                weight = after[quotes].sum()
                go += weight * sum(p for p, s in zip(second, strings, strict=True) if begins(s, ",", 0))
                stop += weight * sum(p for p, s in zip(second, strings, strict=True) if begins(s, "]", 0))
            else:
                stop += after[tokenizer.eos_token_id]
            assert node.goes_on == pytest.approx(go / (go + stop), abs=1e-4)
            assert node.stops == pytest.approx(stop, rel=1e-3)


def plain(llama, text):
    """Returns the logits after a text, by one plain pass."""
    with torch.inference_mode():
        ids = torch.tensor(vocabulary.encode_prompts(llama.tokenizer, [text]))
        return llama.network(ids).logits[0, -1].double().numpy()


def test_documents_do_not_depend_on_their_neighbours(llama, corpus):
    together = view(llama, corpus, most=20).ask([1, 5, 9])[0]["nodes"]
    for row in (1, 5, 9):
        alone = view(llama, corpus, most=20).ask([row])[0]["nodes"]
        a, b = (sets.from_nodes(told(nodes, f"d{row}"), corpus.labels) for nodes in (together, alone))
        assert a.low == pytest.approx(b.low, abs=1e-4) and a.high == pytest.approx(b.high, abs=1e-4)


def test_a_trace_gives_back_the_bounds_of_the_expansion(llama, corpus, tmp_path):
    asked = view(llama, corpus, most=30)
    tables, states = asked.ask(range(4))
    assert states is None
    pd.DataFrame(tables["nodes"]).to_parquet(tmp_path / "nodes.parquet")
    trace = SimpleNamespace(
        table=lambda name: pd.read_parquet(tmp_path / f"{name}.parquet"),
        documents=corpus.documents.iloc[:5],
        labels=corpus.labels,
        single_label=False,
    )
    found = sets.from_trace(trace)
    assert [each.asked for each in found] == [len(told(tables["nodes"], f"d{row}")) for row in range(5)]
    assert all(each.asked == 30 or (each.high - each.low).max() <= 0.02 for each in found[:4])
    assert (found[4].low == 0).all() and (found[4].high == 1).all()
    assert sets.middle(found).shape == (5, 3)
    for each in found[:4]:
        assert sum(each.sets.values()) + each.unresolved == pytest.approx(1)
        assert ((each.high - each.low) < 1).all()
    strict = sets.from_trace(trace, repeats="excluded")
    assert all(each.low.min() >= 0 and each.high.max() <= 1 for each in strict)
    ids = list(trace.documents["id"])
    bounds = sets.tabulate_bounds(found, ids, corpus.labels)
    assert len(bounds) == 15 and (bounds["low"] <= bounds["high"]).all()
    said = sets.tabulate_sets(found, ids, corpus.labels)
    assert said.groupby("document")["low"].sum().le(1 + 1e-9).all() and said["labels"].map(set).map(len).max() <= 3
    sizes = sets.tabulate_sizes(found, ids)
    totals = bounds.groupby("document", sort=False)["low"].sum()
    assert sizes["low"].to_numpy() == pytest.approx(totals.to_numpy())


def test_a_single_label_answer_is_one_question(llama, corpus):
    tables, _ = view(llama, corpus, form="single").ask([0, 1])
    assert [node["prefix"] for node in tables["nodes"]] == [[], []]
    found = sets.from_nodes(told(tables["nodes"], "d0"), corpus.labels, longest=1)
    assert found.low == pytest.approx(softmax(tables["nodes"][0]["logits"])[:-1]) and found.unresolved == 0


def test_too_long_documents_and_bad_logits_are_failures(llama, corpus, monkeypatch):
    texts = corpus.documents.copy()
    texts.loc[1, "text"] = "fox " * 6000
    sets = view(llama, corpus.__class__(**{**corpus.__dict__, "documents": texts}), most=5)
    tables, _ = sets.ask([0, 1, 2])
    assert [row["document"] for row in tables["failures"]] == ["d1"] and "too long" in tables["failures"][0]["error"]
    assert {node["document"] for node in tables["nodes"]} == {"d0", "d2"}
    with torch.no_grad():
        weight = llama.network.get_output_embeddings().weight
        before = weight[0, 0].item()
        weight[0, 0] = float("nan")
        try:
            tables, _ = view(llama, corpus, most=5).ask([0, 2])
        finally:
            weight[0, 0] = before
    assert len(tables["failures"]) == 2 and not tables["nodes"]
    assert tables["failures"][0]["view"] == "sets" and "not finite" in tables["failures"][0]["error"]


def test_the_greedy_set_is_judged_by_bounds():
    made = sets.Marginals
    found = [
        made(2, {frozenset({0}): 0.6, frozenset({1}): 0.3}, {(0, 1): 0.1}),  # certainly best
        made(2, {frozenset({0}): 0.2, frozenset({1}): 0.5}, {(1,): 0.3}),  # certainly beaten
        made(2, {frozenset({0}): 0.4, frozenset({1}): 0.3}, {(1,): 0.3}),  # {1} may have 0.6
        made(2, {}, {(): 1.0}),  # nothing known
    ]
    said = np.tile([True, False], (4, 1))
    table = sets.judge_greedy(found, said, ["a", "b", "c", "d"])
    assert table["verdict"].tolist() == ["best", "beaten", "open", "open"]
    assert table["low"].tolist() == [0.6, 0.2, 0.4, 0.0]
    assert table["high"].tolist() == pytest.approx([0.6, 0.2, 0.4, 1.0])
    assert table["best"].tolist() == [0.3, 0.5, 0.3, 0.0]
