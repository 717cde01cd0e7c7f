"""Labels that begin with the same token, told apart by whole labels: against products of softmaxes by plain passes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from transformers import AutoTokenizer

from mlutils import paths
from mlutils.corpora import descriptions
from mlutils.tracing import engines, models, prompts, views, vocabulary
from mlutils.tracing.answers import FORMS, format_answer, last_span
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import BadLogits, PackedEngine, Written
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.tree import LabelTree

# Beginnings shared over one, two and three tokens, labels that go on where others end, and one that is like none.
ALIKE = ("hate", "hate speech", "hateful", "hats", "joy", "nonsense", "none of it")
SMOLLM2 = paths.cache() / "models" / models.DEFAULT


def rename(corpus, labels):
    """The documents of a corpus with other labels: document i has label i, every second one also the next."""
    gold = np.zeros((len(corpus), len(labels)), bool)
    gold[np.arange(len(corpus)), np.arange(len(corpus)) % len(labels)] = True
    gold[np.arange(0, len(corpus), 2), np.arange(1, len(corpus) + 1, 2) % len(labels)] = True
    return replace(corpus, labels=tuple(labels), gold=gold, votes=gold.astype(float))


def prompting(corpus, labels, form="json", **options):
    alike = rename(corpus, labels)
    return Prompting(alike, alike, draw(alike, shots=4, strategy="random"), prompts.template("x", form=form), **options)


# -- by hand and brute force -------------------------------------------------------------------------------------------
def spell(tokenizer, labels, form):
    """Returns the token sequences of each label, none last, in all its forms: by the text that is written so far."""
    found = []
    for label in [*labels, "none"]:
        other = next(name for name in labels if name != label)
        texts = [(word, 0) for word in (label, label[0].upper() + label[1:])]
        for said in [[]] if label == "none" else [[label], [other, label]]:
            texts.append((format_answer(said, form), last_span(said, form)[0]))
        spelt = set()
        for text, start in texts:
            for gap in ("", " ", "\n"):
                ids = vocabulary.encode(tokenizer, gap + text)
                lengths = [len(tokenizer.decode(ids[:i])) for i in range(len(ids) + 1)]
                first = max(i for i, n in enumerate(lengths) if n <= start + len(gap))
                if not (gap + text)[lengths[first] : start + len(gap)].strip():
                    spelt.add(
                        tuple(ids[first : next(i for i, n in enumerate(lengths) if n >= start + len(gap + label))])
                    )
        found.append(spelt)
    return found


def close(tokenizer, form):
    """Returns the tokens that may follow a label."""
    begin = {"json": ('",', '"]'), "comma": (",", "\n"), "the": (" and", "."), "single": ("\n",)}[form]
    ends = []
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        part = form == "the" and text and " and".startswith(text)
        if text.startswith(begin) or text == '"' and form == "json" or part:
            ends.append(token)
    return {*ends, *([] if form == "json" else [tokenizer.eos_token_id])}


def brute_force(model, before, labels, form):
    """Returns the logits of labels behind some tokens: the best over first tokens of its logit, plus the log of the
    product of softmaxes over what goes on, at each token of a label and at its end, where another label goes on."""
    spelt, ends = spell(model.tokenizer, labels, form), close(model.tokenizer, form)
    every = {path for each in spelt for path in each}
    goes_on = {path[:i] for path in every for i in range(1, len(path))}
    whole = {}  # token sequence, with an end where others go on -> label
    for label, each in enumerate(spelt):
        for path in each:
            for tail in [(end,) for end in ends if (*path, end) not in goes_on | every] if path in goes_on else [()]:
                whole[(*path, *tail)] = label
    held = {}

    def ask(path):
        if path not in held:
            with torch.inference_mode():
                held[path] = model.network(torch.tensor([[*before, *path]])).logits[0, -1].double().numpy()
        return held[path]

    found = np.full(len(spelt), -np.inf)
    for token in {path[0] for path in every}:
        shares = np.zeros(len(spelt))
        for path, label in whole.items():
            if path[0] == token:
                share = 1.0
                for at in range(1, len(path)):
                    rivals = sorted({other[at] for other in whole if len(other) > at and other[:at] == path[:at]})
                    share *= softmax(ask(path[:at])[rivals])[rivals.index(path[at])] if len(rivals) > 1 else 1.0
                shares[label] += share
        assert shares.sum() == pytest.approx(1)
        with np.errstate(divide="ignore"):
            found = np.maximum(found, ask(())[token] + np.log(shares))
    return found


def test_shares_by_hand():
    """1 2 is a label, 1 2 3 and 1 2 4 go on, 1 5 6 and 1 5 7 part later, 8 begins one label only."""
    tree = LabelTree([{(1, 2)}, {(1, 2, 3)}, {(1, 2, 4)}, {(1, 5, 5, 6)}, {(1, 5, 5, 7), (8, 7)}], ends=[3, 9, 10])
    assert tree.labels == {1: {0, 1, 2, 3, 4}} and tree.select == [2, 3, 4, 5, 6, 7, 9, 10]
    assert tree.forks(1) == [(1,), (1, 2), (1, 5, 5)], "behind 1 5 nothing is decided"
    chances = {
        (1,): {2: 3, 5: 1},
        (1, 2): {3: 2, 4: 1, 9: 4, 10: 1},  # 3 goes on to a label, so it ends none
        (1, 5, 5): {6: 1, 7: 9},
    }
    behind = {path: np.log([each.get(token, 1e-3) for token in tree.select]) for path, each in chances.items()}
    shares = tree.shares(1, behind)
    wanted = [3 / 4 * 5 / 8, 3 / 4 * 2 / 8, 3 / 4 / 8, 1 / 4 / 10, 1 / 4 * 9 / 10]
    assert np.exp([shares[label] for label in range(5)]) == pytest.approx(wanted, rel=1e-12)


def test_one_label_in_several_spellings_has_the_sum_of_them():
    tree = LabelTree([{(1, 2), (1, 3)}, {(1, 4)}], ends=[])
    behind = {(1,): np.log([2.0, 3.0, 5.0])}
    assert np.exp(list(tree.shares(1, behind).values())) == pytest.approx([0.5, 0.5])


def test_labels_of_the_same_tokens_are_not_told_apart_behind_them():
    tree = LabelTree([{(1, 2), (3,)}, {(1, 2), (4, 5)}, {(1, 6)}], ends=[9])
    assert tree.labels == {1: {2}} and tree.forks(1) == []
    assert LabelTree([{(1,)}, {(1,)}], ends=[9]).labels == {1: set()}
    assert LabelTree([{(1,)}, {(1, 9)}], ends=[9]).labels == {1: {1}}, "what ends a label goes on to the other"


words = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=2, max_size=9, unique=True)


@settings(max_examples=200, deadline=None)
@given(words, st.sets(st.integers(2, 6), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_shares_are_products_of_softmaxes_whatever_the_labels(spelt, ends, seed):
    """Labels of random tokens, of which some may also end a label; random logits behind each path."""
    rng, held = np.random.default_rng(seed), {}
    tree = LabelTree([{path} for path in spelt], ends)
    goes_on = {path[:i] for path in spelt for i in range(1, len(path))}
    whole = {}
    for label, path in enumerate(spelt):
        tails = [(end,) for end in ends if (*path, end) not in goes_on | {*spelt}] if path in goes_on else [()]
        whole |= {(*path, *tail): label for tail in tails}
    for token, labels in tree.labels.items():
        assert labels == {label for path, label in whole.items() if path[0] == token}
        behind = {}
        for path in tree.forks(token):
            held[path] = rng.normal(0, 3, 7)
            behind[path] = held[path][tree.select]
        shares = tree.shares(token, behind)
        assert np.exp(list(shares.values())).sum() == pytest.approx(1, abs=1e-12)
        for label in labels:
            share = 0.0
            for path in (path for path, of in whole.items() if of == label and path[0] == token):
                product = 1.0
                for at in range(1, len(path)):
                    rivals = sorted({other[at] for other in whole if len(other) > at and other[:at] == path[:at]})
                    # A place that is no fork decides between tokens of one label, or not at all.
                    if path[:at] in behind:
                        product *= softmax(held[path[:at]][rivals])[rivals.index(path[at])]
                    elif len(rivals) > 1:
                        product *= 1 / len(rivals)
                share += product
            assert np.exp(shares[label]) == pytest.approx(share, rel=1e-9)
    alone = [path[0] for path in spelt]
    assert set(tree.labels) == {token for token in alone if alone.count(token) > 1}


# -- steps and nodes ---------------------------------------------------------------------------------------------------
ANSWERS = {
    "json": '\n{"label": ["hate speech", "joy", "hate"]}',
    "comma": " hate, joy, none of it\n",
    "the": " the hateful and the hate speech.",
    "single": " hats\n",
}


@pytest.mark.parametrize("engine", [PackedEngine, PaddedEngine])
@pytest.mark.parametrize("form", FORMS)
def test_label_steps_are_products_of_softmaxes(llama, corpus, monkeypatch, form, engine):
    view = views.ListView(llama, prompting(corpus, ALIKE, form))
    view.engine, ids = engine(llama), vocabulary.encode(llama.tokenizer, ANSWERS[form])
    prompt = vocabulary.encode_prompts(llama.tokenizer, [view.prompting.list_prompt(0)])[0]
    with torch.inference_mode():
        out = llama.network(torch.tensor([prompt + ids]), output_hidden_states=True)
    logits = out.logits[0, len(prompt) - 1 :].double()
    normaliser = logits.logsumexp(-1).numpy()
    said = Written(ids, logits[:, view.label_tokens.select].numpy(), normaliser, out.hidden_states[-1][0], True)
    monkeypatch.setattr(view.engine, "write", lambda *arguments: [said])
    tables, _ = view.ask([0])
    assert not tables["failures"] and len(tables["steps"]) == len(view.find_labels(said)[1]) >= 1
    for step, at in zip(tables["steps"], view.find_labels(said)[1], strict=True):
        wanted = brute_force(llama, [*prompt, *ids[:at]], ALIKE, form)
        assert np.abs(softmax(step["logits"]) - softmax(wanted)).max() < 1e-5
        assert np.abs(np.array(step["logits"]) - wanted).max() < 2e-4
        assert len(set(step["logits"])) == len(ALIKE) + 1
        first = sorted({token for tokens in view.label_tokens.first for token in tokens})
        assert step["mass"] == pytest.approx(logits[at].softmax(-1)[first].sum().item(), abs=1e-6)


@pytest.mark.parametrize("engine", [PackedEngine, PaddedEngine])
@pytest.mark.parametrize("form", ["json", "comma"])
def test_nodes_are_products_of_softmaxes(llama, corpus, form, engine):
    view = views.SetsView(llama, prompting(corpus, ALIKE, form), most=4)
    view.engine = engine(llama)
    tables, _ = view.ask([1, 2])
    assert not tables["failures"] and {node["document"] for node in tables["nodes"]} == {"d1", "d2"}
    prompt = vocabulary.encode_prompts(llama.tokenizer, [view.prompting.list_prompt(2)])[0]
    nodes = pd.DataFrame(tables["nodes"]).query("document == 'd2'")
    assert len(nodes) > 2
    for node in nodes.itertuples():
        following = view._ends_of(tuple(ALIKE.index(label) for label in node.prefix)).following
        wanted = brute_force(llama, [*prompt, *following], ALIKE, form)
        assert np.abs(softmax(node.logits) - softmax(wanted)).max() < 1e-5


def test_lists_behind_other_prompts_are_told_apart_too_and_states_cost_nothing(llama, corpus):
    asked = prompting(corpus, ALIKE, "comma")
    trees = [view.label_tokens.tree for view in views.OrderView(llama, asked).views]
    assert len(trees) == 5 and all(tree.select for tree in trees)
    assert not views.HiddenView(llama, asked).label_tokens.tree.select


def test_by_first_tokens_labels_share_a_logit_as_in_the_paper(llama, corpus, tmp_path, capsys):
    asked = prompting(corpus.take(range(6)), ALIKE, label_tokens="first")
    nodes = views.write_trace(tmp_path, llama, asked, ["sets"]).table("nodes")
    logits = np.array(nodes["logits"].tolist())
    hate, speech = ALIKE.index("hate"), ALIKE.index("hate speech")
    assert (logits[:, hate] == logits[:, speech]).all()
    assert "with the logit of one first token: hate, hate speech" in capsys.readouterr().out


def test_what_released_conventions_and_auto_mean(corpus):
    assert prompting(corpus, ALIKE).label_tokens == "whole"
    assert prompting(corpus, ALIKE, conventions="released").label_tokens == "first"
    assert prompting(corpus, ALIKE, conventions="released", label_tokens="whole").label_tokens == "whole"
    with pytest.raises(ValueError, match="label tokens 'all' are not known: take auto, whole or first"):
        prompting(corpus, ALIKE, label_tokens="all")


def test_nothing_changes_where_labels_share_nothing(llama, corpus, tmp_path):
    """Bit by bit, and nothing more is asked: anger, fear, joy and none begin with tokens of their own."""
    whole, first = (
        views.write_trace(
            tmp_path / how,
            llama,
            Prompting(corpus, corpus, draw(corpus, 4), prompts.template("x"), label_tokens=how),
            ["list", "sets"],
        )
        for how in ("whole", "first")
    )
    assert whole.settings["begin_alike"] == []
    for table in ("steps", "nodes"):
        pd.testing.assert_frame_equal(whole.table(table), first.table(table))
    assert [whole.work[v]["tokens"] for v in ("list", "sets")] == [first.work[v]["tokens"] for v in ("list", "sets")]


def test_a_trace_names_the_labels_and_how_they_are_told_apart(llama, corpus, tmp_path, capsys):
    asked = prompting(corpus.take(range(6)), ALIKE)
    trace = views.write_trace(tmp_path, llama, asked, ["sets"])
    (hate,) = [group for group in trace.settings["begin_alike"] if "hate" in group]
    assert set(hate) >= {"hate", "hate speech", "hateful"} and trace.settings["label_tokens"] == "whole"
    assert "told apart by further tokens: hate, hate speech" in capsys.readouterr().out
    views.write_trace(tmp_path / "questions", llama, asked, ["unary"])
    assert "apart" not in capsys.readouterr().out


# -- failures ----------------------------------------------------------------------------------------------------------
def test_a_document_whose_further_tokens_do_not_fit_fails(llama, corpus):
    view = views.ListView(llama, prompting(corpus, ALIKE))
    logits = np.zeros(len(view.label_tokens.select))
    longest = max(map(len, view.label_tokens.forks(logits)))
    places = {row: [([5] * (llama.context - longest + more), logits)] for row, more in ((0, 0), (1, 1))}
    engine = type("Engine", (), {"read": lambda self, groups, select: [
        (np.zeros((len(group), len(select))), None) for group in groups]})()  # fmt: skip
    outcomes = engines.read_on(llama, engine, view.label_tokens, places)
    assert isinstance(outcomes[0], list) and "too long" in str(outcomes[1])


@pytest.mark.parametrize("name", ["list", "sets"])
def test_a_document_whose_further_logits_are_bad_fails_alone(llama, corpus, monkeypatch, name):
    asked = prompting(corpus, ALIKE, "comma")
    view = views.VIEWS[name](llama, asked)
    read, tree = view.engine.read, view.label_tokens.tree
    spoilt = vocabulary.encode_prompts(llama.tokenizer, [asked.list_prompt(1)])[0]

    def spoil(groups, select):
        answers = read(groups, select)
        if select is not tree.select:
            return answers
        return [BadLogits() if g[0][: len(spoilt)] == spoilt else a for g, a in zip(groups, answers, strict=True)]

    def answer(prompts, select, *_):
        ids = vocabulary.encode(llama.tokenizer, ANSWERS["comma"])
        logits = np.random.default_rng(0).normal(size=(len(ids), len(select)))
        return [Written(ids, logits, np.full(len(ids), 9.0), torch.zeros(len(ids), 48), True) for _ in prompts]

    monkeypatch.setattr(view.engine, "read", spoil)
    monkeypatch.setattr(view.engine, "write", answer)
    tables, _ = view.ask([0, 1, 2])
    assert [row["document"] for row in tables["failures"]] == ["d1"]
    assert "not finite" in tables["failures"][0]["error"]
    rows = tables["steps" if name == "list" else "nodes"]
    assert {row["document"] for row in rows} == {"d0", "d2"}


# -- models at hand ----------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not SMOLLM2.exists(), reason=f"{models.DEFAULT} is not in the cache")
def test_the_default_model_begins_five_emotions_alike_behind_a_quotation_mark():
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    emotions = [each for each in descriptions.read("goemotions").data["documents"]["codes"] if each != "neutral"]
    alike = [["disappointment", "disapproval", "disgust"], ["gratitude", "grief"]]
    assert sorted(vocabulary.begin_alike(tokenizer, emotions, "json")) == alike
    assert vocabulary.begin_alike(tokenizer, emotions, "comma", " ") == []
    assert sorted(vocabulary.begin_alike(tokenizer, emotions, "comma")) == alike, "the first of a line"


def test_no_two_objects_of_boxes_are_alike_to_a_miniature(corpus):
    objects = ("pea", "peach", "pebble", "pen", "pencil", "pendant", "pear", "mat", "mask", "mallet", "mug", "mushroom")
    model = models.load("miniature-xs", device="cpu", dtype="float32")
    alike = rename(corpus.take(range(4)), objects)
    asked = Prompting(alike, alike, draw(alike, 1, "random"), prompts.template("boxes"), new_tokens=12)
    for how, ties in (("whole", 0), ("first", 1)):
        view = views.SetsView(model, replace(asked, label_tokens=how), most=1)
        (node, *_) = view.ask([0])[0]["nodes"]
        logits = np.sort(node["logits"])
        assert ((logits[1:] == logits[:-1]).sum() > 0) == ties
