"""One call trains by any method; what it trains on can be shown."""

import dataclasses

import numpy as np
import pytest

from mlutils.tracing import adapters, models, prompts
from mlutils.training import adaptation, finetuning, sft
from mlutils.training.adaptation import FinetuningError

TEMPLATE = prompts.template("foxes")


@pytest.fixture
def model():
    """A model of one's own: training goes on from shared weights."""
    return models.load(models.RANDOM, "cpu", "float32")


def test_rewards_are_trained_by_the_same_call(model, corpus, tmp_path):
    train, held, name = corpus.take(range(16)), corpus.take(range(32, 40)), "random-llama+rl_marginals-foxes"
    chosen = dict(rank=4, alpha=8, rate=1e-3, batch=2, group=3, steps=2, new_tokens=4, seed=0, epochs=3)
    curve = finetuning.tune("rl_marginals", model, TEMPLATE, train, held, name, tmp_path, **chosen)
    assert list(curve)[:8] == adaptation.CURVE and curve["step"].tolist() == [1, 2] and curve["reward"].notna().all()
    known = adapters.read_record(tmp_path / "adapters" / name)
    assert known["method"] == "rl_marginals" and known["recipe"]["prompts_per_step"] == 2
    tuned = models.load(name, "cpu", "float32", [tmp_path])
    assert tuned.trained_on == {"foxes": set(train.documents["id"])}
    again = finetuning.tune("rl_marginals", model, TEMPLATE, train, held, name, tmp_path, **chosen)
    assert again["reward"].tolist() == pytest.approx(curve["reward"].tolist(), rel=1e-4)


def test_examples_show_what_is_learnt(corpus):
    few = corpus.take([0, 1, 2, 3])
    answered, soft, marginals = (
        finetuning.write_examples(m, TEMPLATE, few, 0, 0) for m in ("sft", "soft", "rl_marginals")
    )
    asked, answers = sft.write_pairs(TEMPLATE, few, few)
    assert answered[2] == f"{asked[2]}⟦{answers[2]}⟧"
    assert soft[2].endswith(f"Is the label reasonable:⟦ reasonable: {few.votes[2, 0]:.2f}⟧") and "anger" in soft[2]
    assert marginals[2].startswith(asked[2]) and f"fear {few.votes[2, 1]:.2f}, joy" in marginals[2]


def test_posts_without_a_majority_have_no_answer_to_learn(model, corpus, monkeypatch, tmp_path):
    gold = np.eye(3, dtype=bool)[np.arange(40) % 3]
    gold[:5] = False
    single = dataclasses.replace(corpus, gold=gold, votes=gold.astype(float), single_label=True)
    given_ = []
    monkeypatch.setattr(sft, "tune", lambda _, template, training, held, *rest: given_.append((training, held)))
    finetuning.tune("sft", model, TEMPLATE, single, single.take(range(10)), "x", tmp_path, batch=2)
    assert [len(each) for each in given_[0]] == [35, 5] and given_[0][0].gold.any(axis=1).all()


def test_methods_that_are_not_known_are_refused(model, corpus, tmp_path):
    with pytest.raises(FinetuningError, match="method 'dpo' is not known: take one of sft, soft, rl_f1"):
        finetuning.tune("dpo", model, TEMPLATE, corpus, corpus, "x", tmp_path)
