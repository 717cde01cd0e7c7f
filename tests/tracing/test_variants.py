"""The views ratio and order: other demonstrations, other orders of labels, everything else the same."""

from dataclasses import replace

import numpy as np
import pytest

from mlutils.readouts import variants as readouts
from mlutils.traces import Trace
from mlutils.tracing import variants, views, vocabulary
from mlutils.tracing.answers import format_answer
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import shared_beginning
from tests.tracing.test_engine import naive_answer
from tests.tracing.test_views import prompting


def asked(corpus, **options):
    return replace(prompting(corpus, **options), plan=draw(corpus, shots=5, exclude=["d0"]))


def some(corpus, documents=23, **options):
    """A prompting of the first documents; the others are shown."""
    return replace(asked(corpus, **options), corpus=corpus.take(range(documents)))


def test_shares_of_demonstrations_are_as_named(corpus):
    found = variants.vary_ratio(some(corpus))
    assert list(found) == [f"ratio={share:g}" for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    gold = dict(zip(corpus.documents["id"], corpus.gold.sum(1), strict=True))
    for number, varied in enumerate(found.values()):
        assert len(varied.plan.ids) == 10
        for ids in varied.plan.ids:
            counts = [gold[i] for i in ids]
            assert len(counts) == 5 and sum(count >= 2 for count in counts) == number and min(counts) > 0
            assert not {f"d{i}" for i in range(23)} & set(ids)
    assert len(set(found["ratio=0.4"].plan.ids)) == 10  # as many plans, not one ten times
    with pytest.raises(ValueError, match="nothing to vary"):
        variants.vary_ratio(replace(asked(corpus), corpus=replace(corpus, single_label=True)))


def test_documents_take_turns_with_plans_or_have_their_own(corpus):
    varied = variants.vary_ratio(some(corpus))["ratio=0.4"]
    assert [varied.plan.of(i) for i in (0, 9, 10, 22)] == [0, 9, 0, 2]
    text = dict(zip(corpus.documents["id"], corpus.documents["text"], strict=True))
    for row in range(23):
        shown = varied.list_prompt(row).split("Input: ")[1:]
        assert [part.split("\n")[0] for part in shown[:-1]] == [text[i] for i in varied.plan.ids[row % 10]]
    assert len(variants.vary_ratio(some(corpus, 4))["ratio=0.4"].plan.ids) == 4  # no plan that nobody is shown
    own = replace(some(corpus), plan=draw(corpus, 5, shared=False, queries=23, exclude=[f"d{i}" for i in range(23)]))
    assert len(variants.vary_ratio(own)["ratio=0.4"].plan.ids) == 23


def test_answers_behind_many_plans_are_those_of_plain_prompts(llama, corpus):
    small = some(corpus, 13, new_tokens=4)
    view = variants.RatioView(llama, small)
    tables = [view.ask(rows)[0] for rows in (range(7), range(7, 13))]  # plans 5 and 6 are in both parts
    found = {(row["variant"], row["document"]): row["text"] for table in tables for row in table["answers"]}
    assert len(found) == 6 * 13
    for name, varied in variants.vary_ratio(small).items():
        (listed,) = (each for each in view.views if each.variant == name)
        for row in range(13):
            prompt = vocabulary.encode_prompts(llama.tokenizer, [varied.list_prompt(row)])[0]
            (written,) = listed.write([row])[1].values()  # behind whatever the engine keeps by now
            said, logits = naive_answer(llama, prompt, len(written.tokens))
            assert written.tokens == said
            assert np.abs(written.logits - logits[:, listed.label_tokens.select]).max() < 1e-4
            assert found[name, f"d{row}"] == llama.tokenizer.decode(said, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("part", [4, 23])
def test_the_demonstrations_of_a_plan_are_computed_once_a_run(llama, corpus, part):
    small = some(corpus, new_tokens=1)
    view = variants.RatioView(llama, small)
    for listed in view.views:
        listed.engine.row = 200  # the prompts are short for rows of 640
    for start in range(0, 23, part):
        view.ask(range(start, min(start + part, 23)))
    once, apart = 0, 0
    for varied in variants.vary_ratio(small).values():
        prompts = vocabulary.encode_prompts(llama.tokenizer, [varied.list_prompt(row) for row in range(23)])
        apart += sum(map(len, prompts))
        before = []
        for plan in range(10):
            mine = prompts[plan::10]
            shown = shared_beginning(mine)
            once += shown - (shared_beginning([before, mine[0]]) if before else 0)  # the instruction stays
            once += sum(len(prompt) - shown for prompt in mine)
            before = mine[0][:shown]
    assert once <= view.engine.tokens <= once + 6 * 23  # at most a drafted token an answer
    assert once < 0.6 * apart


def test_labels_are_listed_in_each_order_and_answers_follow(corpus):
    found = variants.vary_order(asked(corpus))
    assert list(found) == ["order=alphabetical", "order=reversed", "order=random-1", "order=random-2", "order=random-3"]
    plain, turned = (found[f"order={name}"].list_prompt(0) for name in ("alphabetical", "reversed"))
    assert plain == asked(corpus).list_prompt(0)
    assert "anger, fear and joy" in plain and "joy, fear and anger" in turned
    held = dict(zip(corpus.documents["id"], corpus.gold, strict=True))
    sets = [[label for label, g in zip(corpus.labels, held[i], strict=True) if g] for i in asked(corpus).plan.ids[0]]
    several = [said for said in sets if len(said) > 1]
    assert several
    fixed = variants.vary_order(asked(corpus, answer_order="alphabetical"))["order=reversed"].list_prompt(0)
    for said in several:
        forward, backward = format_answer(said, "json"), format_answer(said[::-1], "json")
        assert forward in plain and backward not in plain and backward in turned and forward not in turned
        assert "joy, fear and anger" in fixed and forward in fixed and backward not in fixed
    assert plain.rpartition("Input:")[2] == turned.rpartition("Input:")[2]


@pytest.mark.parametrize("view", ["ratio", "order"])
def test_each_variant_is_a_list_view_of_its_own(llama, corpus, tmp_path, view):
    small = replace(asked(corpus), corpus=corpus.take(range(6)))
    trace = views.write_trace(tmp_path, llama, small, ["list", view])
    names = list(trace.settings["variants"])
    assert set(trace.answers["variant"]) == {"list", *names}
    name = names[-1]
    alone, _ = views.ListView(llama, variants.VariantsView.__subclasses__()[view == "order"].vary(small)[name]).ask(
        range(6)
    )
    mine = trace.answers[trace.answers["variant"] == name]
    assert mine["text"].tolist() == [row["text"] for row in alone["answers"]]
    assert trace.work[view]["tokens"] > 0
    plan = trace.settings["variants"][name]["plan"]
    assert len(plan["ids"]) == (6 if view == "ratio" else 1) and trace.said(name).shape == (6, 3)
    of = variants.VariantsView.__subclasses__()[view == "order"].vary(small)[name].plan.of
    assert readouts.plans(trace, name).tolist() == [of(row) for row in range(6)]
    again = views.write_trace(tmp_path, llama, small, ["list", view])  # the same settings: it may go on
    assert again.settings == Trace(tmp_path).settings


def test_plain_traces_have_no_variants(llama, corpus, tmp_path):
    trace = views.write_trace(tmp_path, llama, replace(asked(corpus), corpus=corpus.take(range(2))), ["list"])
    assert "variants" not in trace.settings


def test_bad_orders_are_refused(corpus):
    with pytest.raises(ValueError, match="answer order 'any'"):
        asked(corpus, answer_order="any")
    with pytest.raises(ValueError, match="must hold exactly the labels"):
        asked(corpus, label_order=("joy", "fear"))
