"""SFT trains what the tracer will ask for, in an order that a resumed run follows again."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from mlutils.corpora import text_marks
from mlutils.tracing import adapters, models, prompts
from mlutils.tracing.answers import is_finished
from mlutils.tracing.vocabulary import encode_prompts
from mlutils.training import adaptation, finetuning, sft
from mlutils.training.adaptation import FinetuningError, Recipe

TEMPLATE = prompts.template("foxes")
QUICK = Recipe(rank=8, alpha=16, rate=5e-3, epochs=1, batch=8, evaluations=3)
NAME = "random-llama+sft-foxes"


# -- what is trained on --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("template", prompts.TEMPLATES.values(), ids=map("-".join, prompts.TEMPLATES))
@pytest.mark.parametrize("said", [["joy"], ["anger", "joy"], []])
def test_prompt_and_answer_read_as_a_demonstration(template, said):
    labels, text = ["anger", "joy"], "a text with {label}"
    prompt, answer = prompts.list_prompt(template, labels, [], text), sft.answer_text(template, said)
    following = prompts.list_prompt(template, labels, [(text, said)], "another")
    assert following.startswith(prompt + answer)
    assert following.removeprefix(prompt + answer).startswith(template.demonstration[:5])  # the next query
    # The tracer stops within what was trained, and not before the list has ended.
    assert is_finished(answer, template.form)
    assert not is_finished(answer.rstrip("\n.").rstrip("}"), template.form)


def test_prompts_are_those_of_the_tracer_and_labels_those_of_the_instruction(corpus):
    train = corpus.take(range(20))
    asked, answers = sft.write_pairs(TEMPLATE, corpus.take([30, 31]), train)
    assert asked[1] == prompts.list_prompt(TEMPLATE, corpus.labels, [], corpus.documents["text"][31])
    gold = [label for label, has in zip(corpus.labels, corpus.gold[31], strict=True) if has]
    assert answers[1] == f'{{"label": {json.dumps(gold or ["none"])}}}\n'

    (shown, _), answers = (sft.write_pairs(TEMPLATE, corpus.take([30, 31]), train, shots=4), None)
    assert all(prompt.count("Input: ") == 5 and prompt.endswith(asked[i][-20:]) for i, prompt in enumerate(shown))


def test_demonstrations_are_drawn_anew_and_never_the_document_itself(corpus):
    texts = corpus.documents["text"]
    drawn = sft.draw_shown(corpus, corpus, 4, seed=0)
    assert len({ids for ids, _ in drawn}) > 30 and drawn == sft.draw_shown(corpus, corpus, 4, seed=0)
    assert drawn != sft.draw_shown(corpus, corpus, 4, seed=1)
    for document, (ids, questions) in zip(corpus.documents["id"], drawn, strict=True):
        assert len(ids) == 4 and document not in ids
        assert [i for i, *_ in questions] == list(ids)
    asked, _ = sft.write_pairs(TEMPLATE, corpus, corpus, shots=4)
    assert all(prompt.count(text) == 1 for prompt, text in zip(asked, texts, strict=True))
    assert sft.draw_shown(corpus, corpus, 0, seed=0) == [((), ())] * 40


def test_tokens_are_the_tracers_and_only_the_answer_counts(llama, corpus):
    asked, answers = sft.write_pairs(TEMPLATE, corpus, corpus)
    for example, prompt, answer in zip(sft.encode_pairs(llama, asked, answers), asked, answers, strict=True):
        (begin,) = encode_prompts(llama.tokenizer, [prompt])
        assert example["input_ids"][: len(begin)] == begin
        assert llama.tokenizer.decode(example["input_ids"]) == prompt + answer
        assert example["labels"] == [-100] * len(begin) + example["input_ids"][len(begin) :]
    # A text that ends in a blank line: as tokens, prompt and answer together would begin otherwise.
    begin, whole = encode_prompts(llama.tokenizer, ["fox\n\n", "fox\n\n[1]"])
    assert whole[: len(begin)] != begin and llama.tokenizer.decode(whole[-3:]) == "[1]"
    (blank,) = sft.encode_pairs(llama, ["fox\n\n"], ["[1]"])
    assert blank == {"input_ids": begin + whole[-3:], "labels": [-100] * len(begin) + whole[-3:]}
    whole = sft.encode_pairs(llama, asked[:1], answers[:1], loss_on="all")[0]
    assert whole["labels"] == whole["input_ids"]


def test_pairs_that_do_not_fit_are_left_out_and_many_stop_the_run(llama, capsys):
    # " reasonable" is one token, so the prompt's tokens are not a beginning of the whole.
    encoded = sft.encode_pairs(llama, ["fine\n", "is it reason", "long " * 5000], ["[1]", "able", "[1]"])
    assert [each is None for each in encoded] == [False, True, True]
    with pytest.raises(FinetuningError, match="foxes: 2 of 3 training prompts do not fit"):
        sft.keep_fitting(encoded, "foxes")
    assert len(sft.keep_fitting([*encoded[:2], *[encoded[0]] * 20], "foxes")) == 21
    assert "1 of 22 training prompts do not fit" in capsys.readouterr().out


# -- training ------------------------------------------------------------------------------------------------------
@pytest.fixture
def model(llama):
    """A model of one's own: training goes on from shared weights."""
    return models.load(models.RANDOM, "cpu", "float32")


@pytest.fixture(scope="module")
def joyful(corpus):
    """Documents that all have the same labels."""
    gold = np.tile([False, True, True], (40, 1))
    return dataclasses.replace(corpus, gold=gold, votes=gold.astype(float))


def test_a_tuned_model_writes_what_it_was_taught_and_the_base_stays_as_it_was(model, llama, joyful, tmp_path):
    template = prompts.template("foxes", form="comma")
    recipe = dataclasses.replace(QUICK, rank=16, rate=2e-2, epochs=12)
    train, held = joyful.take(range(30)), joyful.take(range(30, 40))
    curve = sft.tune(model, template, train, held, recipe, NAME, tmp_path)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, llama.network.state_dict()[name]), name
    # Its last norm and head are as they were, so the most that it can give to a token is about 0.07.
    assert list(curve) == adaptation.CURVE and curve["held_loss"].iloc[-1] < 3.2 < 6 < curve["held_loss"].iloc[0]
    assert curve["loss"].iloc[-1] < 3.2 and curve["step"].iloc[-1] == 45 and curve["seconds"].is_monotonic_increasing

    tuned = models.load(NAME, "cpu", "float32", [tmp_path])
    answers = finetuning.write_answers(tuned, template, held, train)
    assert set(answers["answer"]) == {"fear, joy"} and set(answers["status"]) == {"ok"}
    assert answers["f1"].tolist() == [1.0] * 10 and answers["labels"].tolist() == [2] * 10
    assert set(finetuning.write_answers(model, template, held, train)["f1"]) == {0.0}  # malformed

    known = adapters.read_record(tmp_path / "adapters" / NAME)
    assert known["trained_on"] == {"foxes": sorted(f"d{i}" for i in range(30))} and known["documents"] == 30
    assert (
        known["trained_texts"]
        == {"foxes": sorted(text_marks(train))}
        == {"foxes": sorted(tuned.trained_texts["foxes"])}
    )
    lengths = [len(ids) for ids in encode_prompts(model.tokenizer, [
        prompt + answer for prompt, answer in zip(*sft.write_pairs(template, train, train), strict=True)
    ])]  # fmt: skip
    assert known["tokens"] == curve["tokens"].iloc[-1] == 12 * sum(lengths)
    assert known["recipe"]["rate"] == 2e-2 and known["base_revision"] == "seed-0" and known["steps"] == 45
    with pytest.raises(ValueError, match="trained on 1 of these"):
        adapters.check_untested(tuned, joyful.take([29, 30]))
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_the_held_out_loss_is_the_mean_over_tokens_whatever_the_batch(model, corpus, tmp_path, loss_on):
    train, held = corpus.take(range(16)), corpus.take(range(16, 29))  # thirteen: the last batch is short, too
    nats, tokens = 0.0, 0
    for example in sft.encode_pairs(model, *sft.write_pairs(TEMPLATE, held, train), loss_on):
        ids, labels = torch.tensor(example["input_ids"]), torch.tensor(example["labels"])
        with torch.no_grad():
            logits = model.network(ids[None]).logits[0, :-1]
        nats += torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum").item()
        tokens += (labels[1:] != -100).sum().item()
    found = []
    for batch in (1, 4, 5, 16):
        recipe = dataclasses.replace(QUICK, batch=batch, evaluations=1, loss_on=loss_on)
        found.append(sft.tune(model, TEMPLATE, train, held, recipe, f"{NAME}{batch}", tmp_path)["held_loss"].iloc[0])
    assert found == pytest.approx([nats / tokens] * 4, abs=2e-5)


def test_what_is_finished_is_not_trained_again_and_another_recipe_is_refused(model, corpus, tmp_path, monkeypatch):
    train, held = corpus.take(range(16)), corpus.take(range(32, 40))
    curve = sft.tune(model, TEMPLATE, train, held, QUICK, NAME, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sft, "train_on", None)
        again = sft.tune(model, TEMPLATE, train, held, QUICK, NAME, tmp_path)
    pd.testing.assert_frame_equal(again, curve, check_exact=False, rtol=1e-5, check_dtype=False)
    other = dataclasses.replace(QUICK, rate=1e-3)
    for recipe, documents in ((other, train), (QUICK, corpus.take(range(17)))):
        with pytest.raises(FinetuningError, match="another recipe or of other documents"):
            sft.tune(model, TEMPLATE, documents, held, recipe, NAME, tmp_path)


def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(model, corpus, tmp_path, monkeypatch):
    train, held = corpus.take(range(30)), corpus.take(range(32, 40))
    recipe = dataclasses.replace(QUICK, epochs=2, evaluations=4)
    whole = sft.tune(model, TEMPLATE, train, held, recipe, NAME, tmp_path / "whole")
    steps, original = [], sft.SFTTrainer.training_step

    def killed(trainer, *given, **named):
        steps.append(trainer.state.global_step)
        if trainer.state.global_step == 5:
            raise KeyboardInterrupt
        return original(trainer, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(sft.SFTTrainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            sft.tune(model, TEMPLATE, train, held, recipe, NAME, tmp_path / "cut")
    assert not (tmp_path / "cut" / "adapters").exists()
    with pytest.raises(FinetuningError, match="checkpoints.*another recipe"):
        sft.tune(model, TEMPLATE, train, held, QUICK, NAME, tmp_path / "cut")
    # A checkpoint that was cut off while it was written has no state.
    (tmp_path / "cut" / "checkpoints" / NAME / "checkpoint-7").mkdir()
    torch.manual_seed(123)
    steps.clear()
    monkeypatch.setattr(
        sft.SFTTrainer, "training_step",
        lambda trainer, *given, **named: steps.append(trainer.state.global_step) or original(trainer, *given, **named),
    )  # fmt: skip
    resumed = sft.tune(model, TEMPLATE, train, held, recipe, NAME, tmp_path / "cut")
    assert steps == [4, 5, 6, 7]
    assert resumed["loss"].to_numpy() == pytest.approx(whole["loss"].to_numpy(), abs=1e-4, nan_ok=True)
    assert resumed["held_loss"].to_numpy() == pytest.approx(whole["held_loss"].to_numpy(), abs=1e-4, nan_ok=True)
    assert resumed["seconds"].is_monotonic_increasing


def test_a_run_that_diverges_stops_with_the_reason(model, corpus, tmp_path):
    train, held = corpus.take(range(16)), corpus.take(range(32, 40))
    with pytest.raises(
        FinetuningError, match=r"diverged: \w+ is (nan|inf) at step \d+; take a lower rate \(it is 1e\+30"
    ):
        sft.tune(model, TEMPLATE, train, held, dataclasses.replace(QUICK, rate=1e30), NAME, tmp_path)
    assert not (tmp_path / "adapters").exists()
    assert not any("lora" in name for name, _ in model.network.named_modules())


def test_seeds_differ_and_in_context_training_shows_demonstrations_anew(model, corpus, tmp_path):
    train, held = corpus.take(range(24)), corpus.take(range(32, 40))
    curves = [
        sft.tune(model, TEMPLATE, train, held, dataclasses.replace(QUICK, seed=seed), f"{NAME}{seed}", tmp_path)
        for seed in (0, 1)
    ]
    assert curves[1]["seed"].unique().tolist() == [1]
    assert (curves[0]["held_loss"] - curves[1]["held_loss"]).abs().max() > 1e-3
    texts, build = [], adaptation.Job

    def note(method, name, model, training, recipe, written, folder):
        texts.extend(written)
        return build(method, name, model, training, recipe, written, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "Job", note)
        recipe = dataclasses.replace(QUICK, train_shots=2, epochs=2)
        sft.tune(model, TEMPLATE, train, held, recipe, "random-llama+sft_icl-foxes", tmp_path)
    assert len(texts) == 48 and all(text.count("Input: ") == 3 for text in texts)
    assert sum(first != second for first, second in zip(texts[:24], texts[24:], strict=True)) > 20
