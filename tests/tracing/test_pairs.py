"""The sparse design of pairs: who meets whom, when it is taken, and a trace of 60 labels end to end."""

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import expit

from mlutils import readouts
from mlutils.tracing import prompts, views, vocabulary
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.prompting import Prompting, choose_design, pair_up

LABELS = tuple(f"{a}{b}" for a in "abcdefghij" for b in "klmnop")  # 60


@pytest.fixture(scope="module")
def wide(corpus):
    """Six documents of 60 labels."""
    gold = np.random.default_rng(1).random((6, 60)) < 0.05
    few = corpus.take(range(6))
    return replace(few, labels=LABELS, gold=gold, votes=gold * 1.0)


def prompting(corpus, **options):
    return Prompting(
        corpus, corpus, draw(corpus, 2, "random", exclude=corpus.documents["id"][:4]), prompts.template("x"), **options
    )


@pytest.mark.parametrize("size", [10, 11, 28, 59, 60])
@pytest.mark.parametrize("none", [True, False])
def test_each_label_meets_none_and_eight_others_and_all_are_linked(size, none):
    labels = list(LABELS[:size])
    names = [*labels, "none"] if none else labels
    for seed in range(3):
        pairs = pair_up(names, "plan", seed, "sparse")
        assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 4 * size + none * size
        assert {
            label: sum(label in pair and "none" not in pair for pair in pairs) for label in labels
        } == dict.fromkeys(labels, 8)
        assert not none or {other for pair in pairs if "none" in pair for other in pair} == set(names)
        at_a = Counter(a for a, _ in pairs)
        assert {at_a[label] for label in labels} <= {4, 5} and abs(at_a["none"] - none * size / 2) <= 0.5
        linked, meets = {labels[0]}, [pair for pair in pairs if "none" not in pair]
        for _ in range(4):  # nobody is further from anybody
            linked |= {other for pair in meets if linked & set(pair) for other in pair}
        assert linked == set(labels)


def test_orders_of_the_sparse_design():
    names = [*LABELS, "none"]
    planned = pair_up(names, "plan", 3, "sparse")
    released, both = (pair_up(names, order, 3, "sparse") for order in ("released", "both"))
    assert [frozenset(pair) for pair in planned] == [frozenset(pair) for pair in released]
    assert all(names.index(a) < names.index(b) for a, b in released)
    assert both == released + [(b, a) for a, b in released]
    assert pair_up(names, "plan", 3, "sparse") == planned != pair_up(names, "plan", 4, "sparse")


@pytest.mark.parametrize("design, options, chosen", [
    ("auto", 28, "all"), ("auto", 29, "sparse"), ("all", 29, "all"), ("all", 61, "all"), ("sparse", 28, "sparse"),
    ("sparse", 11, "sparse"), ("sparse", 10, "all"),  # nine labels that each meet eight others: these are all
])  # fmt: skip
def test_auto_is_all_up_to_400_pairs(design, options, chosen):
    names = [*LABELS[: options - 1], "none"]
    assert choose_design(design, names) == chosen
    every = len(list(combinations(names, 2)))
    assert (len(pair_up(names, "plan", 0, chosen)) == every) == (chosen == "all")


def test_a_trace_of_sixty_labels_end_to_end(llama, wide, tmp_path, capsys):
    asked = prompting(wide)
    trace = views.write_trace(tmp_path, llama, asked, views=["pairwise"])
    recorded = json.loads((tmp_path / "trace.json").read_text())["pairs"]
    assert recorded == trace.settings["pairs"] == {"design": "sparse", "number": 300, "others": 8}
    said = "pairs: sparse, each label against none and 8 others; 300 questions a document"
    assert said in capsys.readouterr().out
    assert len(trace.questions) == 6 * 300
    wins, names = trace.pairwise_wins(), [*LABELS, "none"]
    assert (np.isfinite(wins).sum(axis=(1, 2)) == 600).all()
    tokens = [vocabulary.encode(llama.tokenizer, word)[0] for word in (" a", " b")]
    for (a, b), prompt in list(zip(asked.pairs, asked.pairwise_prompts(2), strict=True))[::37]:
        ids = vocabulary.encode_prompts(llama.tokenizer, [prompt])
        with torch.inference_mode():
            first, second = llama.network(torch.tensor(ids)).logits[0, -1, tokens].double().tolist()
        assert wins[2, names.index(a), names.index(b)] == pytest.approx(expit(first - second), abs=1e-5)
    for method in ("binary_breakdown", "binary_breakdown_outcomes"):
        value = readouts.from_trace(trace, method)
        assert value.shape == (6, 60) and ((value > 0) & (value < 1)).all()
    assert not readouts.bradley_terry.find_constant(wins).any()


def test_single_labels_and_all_pairs_say_what_they_are(llama, wide, corpus, tmp_path, capsys):
    single = replace(wide, single_label=True, gold=np.eye(60, dtype=bool)[:6])
    trace = views.write_trace(tmp_path / "single", llama, prompting(single), views=["pairwise"])
    assert "pairs: sparse, each label against 8 others; 240 questions a document" in capsys.readouterr().out
    assert readouts.from_trace(trace, "binary_breakdown").sum(axis=1) == pytest.approx(1)
    few = views.write_trace(tmp_path / "few", llama, prompting(corpus.take(range(8))), views=["pairwise"])
    assert few.settings["pairs"] == {"design": "all", "number": 6}
    assert "pairs: all; 6 questions a document" in capsys.readouterr().out
    none = views.write_trace(tmp_path / "none", llama, prompting(wide), views=["unary"])
    assert "pairs" not in none.settings and "pairs" not in capsys.readouterr().out


def test_what_is_too_much_or_unknown_is_refused(llama, wide):
    advice = (
        "1830 questions a document, more than 1000: take pairs sparse, or leave it out for foxes, which has 60 labels"
    )
    with pytest.raises(ValueError, match=advice):
        views.PairwiseView(llama, prompting(wide, pair_design="all"))
    with pytest.raises(ValueError, match="pairs 'some' are not known: take auto, all or sparse"):
        prompting(wide, pair_design="some")
