"""Medusa heads of our own: what they begin as, their loss by hand, training, and reading them by name."""

import dataclasses

import numpy as np
import pytest
import torch

from mlutils import readouts
from mlutils.tracing import adapters, demonstrations, medusa, models, prompts, views
from mlutils.tracing.prompting import Prompting
from mlutils.training import finetuning, sft
from mlutils.training import medusa as training
from mlutils.training.adaptation import FinetuningError

TEMPLATE = prompts.template("foxes", form="comma")
NAME = "random-llama+medusa-foxes"
CHOSEN = dict(heads=2, rate=3e-3, epochs=6, batch=4, loss_on="all", evaluations=2, train_shots=0, seed=0)


@pytest.fixture
def model():
    return models.load(models.RANDOM, "cpu", "float32")


@pytest.fixture
def parts(corpus):
    return corpus.take(range(12)), corpus.take(range(30, 36))


def examples(model, corpus, loss_on="all"):
    return sft.encode_pairs(model, *sft.write_pairs(TEMPLATE, corpus, corpus), loss_on)


def loss_by_hand(network, heads, rows):
    """Mean over all foreseen tokens of all heads, a sequence and a token at a time."""
    found = []
    with torch.no_grad():
        for row in rows:
            ids = row["input_ids"]
            states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
            for number, head in enumerate(heads, start=1):
                for at in range(len(ids)):
                    ahead = at + 1 + number
                    if ahead < len(ids) and row["labels"][ahead] != -100:
                        found.append(-head(states[at]).log_softmax(-1)[ids[ahead]].item())
    return np.mean(found)


@pytest.mark.parametrize("loss_on", ["all", "answer"])
def test_the_loss_is_the_mean_over_what_all_heads_foresee(model, corpus, loss_on):
    rows = examples(model, corpus.take(range(3)), loss_on)
    heads = training.Heads(model.network, 3)
    torch.manual_seed(1)
    for weights in heads.parameters():
        weights.data += torch.randn_like(weights) / 10
    batch = training.collate(rows)
    assert heads(**batch)["loss"].item() == pytest.approx(loss_by_hand(model.network, heads, rows), rel=1e-5)


def test_heads_begin_as_the_models_own(model):
    states = torch.randn(5, model.config.hidden_size)
    own = model.network.get_output_embeddings()(states)
    for head in training.Heads(model.network, 2):
        assert torch.equal(head(states), own)


def test_heads_learn_are_found_by_name_and_the_model_stays(model, corpus, parts, tmp_path):
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    curve = finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **CHOSEN)
    held = curve["held_loss"].dropna().tolist()
    assert len(held) == 3 and held[-1] < 0.7 * held[0]
    aside = examples(model, parts[1])
    assert held[0] == pytest.approx(loss_by_hand(model.network, training.Heads(model.network, 2), aside), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    record = adapters.read_record(tmp_path / "adapters" / NAME)
    assert record["method"] == "medusa" and record["recipe"]["heads"] == 2

    tuned = models.load(NAME, "cpu", "float32", [tmp_path])
    assert tuned.trained_on == {"foxes": set(parts[0].documents["id"])} and tuned.revision != model.revision
    assert torch.equal(tuned.network.state_dict()["lm_head.weight"], before["lm_head.weight"])
    heads = medusa.load_heads(tuned)
    assert held[-1] == pytest.approx(loss_by_hand(tuned.network, heads, aside), rel=1e-3)  # float16 in the file
    with pytest.raises(OSError, match="would change the model behind which the heads of .*medusa-foxes' were trained"):
        adapters.apply(tuned, f"{NAME}+sft-foxes", tmp_path)


def test_scores_are_counted_by_hand(model, corpus, parts, tmp_path):
    finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **CHOSEN)
    tuned = models.load(NAME, "cpu", "float32", [tmp_path])
    rows = examples(model, parts[1], "answer")
    heads, hits, tokens = [tuned.network.lm_head, *medusa.load_heads(tuned)], [[], [], []], 0
    with torch.no_grad():
        for row in rows:
            ids = row["input_ids"]
            states = tuned.network(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
            ahead = [i for i, label in enumerate(row["labels"]) if label != -100]
            tokens += len(ahead)
            for number, head in enumerate(heads):
                hits[number].append(np.mean([head(states[i - 1 - number]).argmax().item() == ids[i] for i in ahead]))
    scored = training.score(tuned, rows)
    assert scored["head"].tolist() == [0, 1, 2] and set(scored["n"]) == {tokens}
    np.testing.assert_allclose(scored["top1"], [np.mean(each) for each in hits], rtol=1e-6)
    assert (scored["low"] <= scored["top1"]).all() and (scored["top1"] <= scored["high"]).all()


def test_a_trace_reads_them_at_label_steps(model, corpus, parts, tmp_path):
    finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **CHOSEN)
    tuned = models.load(NAME, "cpu", "float32", [tmp_path], pack=True)
    asked = corpus.take(range(36, 40))
    prompting = Prompting(asked, corpus, demonstrations.draw(corpus, shots=2), TEMPLATE)
    trace = views.write_trace(tmp_path / "trace", tuned, prompting, ["list", "medusa"])
    assert trace.settings["model"] == NAME and len(readouts.medusa.read(trace)) >= 0
    with pytest.raises(ValueError, match="was trained on 1 of these 1 documents of foxes"):
        adapters.check_untested(tuned, corpus.take([0]))


def test_what_cannot_be_trained_is_refused(model, corpus, parts, tmp_path):
    for wrong, said in (({"heads": 0}, "heads=0 must be 1 or more"), ({"rate": 0.0}, "rate=0.0 above 0")):
        with pytest.raises(FinetuningError, match=said):
            finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **{**CHOSEN, **wrong})
    finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **{**CHOSEN, "epochs": 1})
    with pytest.raises(FinetuningError, match="is of another recipe or of other documents"):
        finetuning.tune("medusa", model, TEMPLATE, *parts, NAME, tmp_path, **{**CHOSEN, "epochs": 1, "heads": 3})
    assert dataclasses.asdict(training.Recipe())["heads"] == 3
