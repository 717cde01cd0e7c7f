"""The views ratio and order: other demonstrations, other orders of labels, everything else the same."""

from dataclasses import replace

import pytest
from test_views import prompting

from mlutils.traces import Trace
from mlutils.tracing import variants, views
from mlutils.tracing.answers import format_answer
from mlutils.tracing.demonstrations import draw


def asked(corpus, **options):
    return replace(prompting(corpus, **options), plan=draw(corpus, shots=5, exclude=["d0"]))


def test_shares_of_demonstrations_are_as_named(corpus):
    found = variants.vary_ratio(replace(asked(corpus), corpus=corpus.take([0])))
    assert list(found) == [f"ratio={share:g}" for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    gold = dict(zip(corpus.documents["id"], corpus.gold.sum(1), strict=True))
    for number, varied in enumerate(found.values()):
        counts = [gold[i] for i in varied.plan.ids[0]]
        assert len(counts) == 5 and sum(count >= 2 for count in counts) == number and min(counts) > 0
        assert "d0" not in varied.plan.ids[0]
    with pytest.raises(ValueError, match="nothing to vary"):
        variants.vary_ratio(replace(asked(corpus), corpus=replace(corpus, single_label=True)))


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
    assert plan["ids"] and trace.said(name).shape == (6, 3)
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
