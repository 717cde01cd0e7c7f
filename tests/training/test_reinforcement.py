import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlutils import metrics
from mlutils.tracing import demonstrations, prompts, vocabulary
from mlutils.tracing.answers import format_answer
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView
from mlutils.training import adaptation, reinforcement
from mlutils.training.adaptation import FinetuningError, Job
from mlutils.training.reinforcement import Recipe

TEMPLATE = prompts.template("foxes", form="comma")
SMALL = Recipe(reward="marginals", steps=4, prompts_per_step=2, group=4, new_tokens=12, checkpoint_every=2)
VOTES = np.array([0.9, 0.5, 0.1])
NAME = "lister+rl-foxes"


@pytest.fixture(scope="module")
def foxes(corpus):
    """The corpus with the same votes everywhere, which a tiny model can learn from a few answers."""
    votes = np.tile(VOTES, (len(corpus), 1))
    return replace(corpus, votes=votes, gold=votes >= 0.5)


@pytest.fixture(scope="module")
def lister(llama, foxes):
    """The random Llama, taught in seconds to write comma lists: any set of labels, whatever the document."""
    network = copy.deepcopy(llama.network).requires_grad_(True)
    rng, optimizer = np.random.default_rng(0), torch.optim.AdamW(network.parameters(), lr=5e-3)
    asked = [prompts.list_prompt(TEMPLATE, foxes.labels, [], text) for text in foxes.documents["text"]]
    asked = vocabulary.encode_prompts(llama.tokenizer, asked)
    for _ in range(120):
        rows = rng.integers(0, len(asked), 8)
        sets = [np.array(foxes.labels)[rng.random(3) < 0.5].tolist() for _ in rows]
        said = [vocabulary.encode(llama.tokenizer, format_answer(each, "comma") + "\n") for each in sets]
        width = max(len(asked[row]) + len(tokens) for row, tokens in zip(rows, said, strict=True))
        ids = torch.zeros(8, width, dtype=int)
        wanted = torch.full_like(ids, -100)
        for i, (row, tokens) in enumerate(zip(rows, said, strict=True)):
            start, end = len(asked[row]), len(asked[row]) + len(tokens)
            ids[i, :end] = torch.tensor(asked[row] + tokens)
            wanted[i, start:end] = torch.tensor(tokens)
        network(input_ids=ids, labels=wanted).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.eval().requires_grad_(False)
    return Model("lister", network, llama.tokenizer, "test", True)


def encode(model, corpus, rows):
    texts = [prompts.list_prompt(TEMPLATE, corpus.labels, [], corpus.documents["text"].iloc[row]) for row in rows]
    return vocabulary.encode_prompts(model.tokenizer, texts)


def tune(model, corpus, recipe, folder, look=lambda network: None):
    """Returns the curve of an adapter; `look` is given the trained network before it is saved."""
    save = Job.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "save", lambda job, network: (look(network), save(job, network)))
        return reinforcement.tune(model, TEMPLATE, corpus, recipe, NAME, folder)


def tune_and_keep(model, corpus, recipe, folder):
    """Returns the curve and the adapter's weights."""
    kept = {}

    def keep(network):
        kept.update({name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad})

    return tune(model, corpus, recipe, folder, keep), kept


# -- answers -----------------------------------------------------------------------------------------------------------
def test_cold_answers_are_the_greedy_answers(lister, foxes):
    rows = [0, 1, 2, 3]
    plan = demonstrations.draw(foxes, shots=0)
    view = ListView(lister, Prompting(foxes, foxes, plan, TEMPLATE, new_tokens=12))
    _, written = view.write(rows)
    found = reinforcement.sample(lister, lister.network, encode(lister, foxes, rows), "comma", 2, 12, 1e-4)
    assert found == [written[row].tokens for row in rows for _ in range(2)]


def test_answers_are_drawn_from_the_whole_softmax(llama, corpus):
    encoded = encode(llama, corpus, [0, 1])
    assert len(encoded[0]) != len(encoded[1])  # so that one of them is padded
    llama.network.generation_config.update(top_k=1)
    torch.manual_seed(0)
    try:
        answers = reinforcement.sample(llama, llama.network, encoded, "comma", 3000, 1, 2.0)
    finally:
        llama.network.generation_config.update(top_k=None)
    for ids, drawn in zip(encoded, (answers[:3000], answers[3000:]), strict=True):
        wanted = (llama.network(torch.tensor([ids])).logits[0, -1] / 2).softmax(-1).numpy()
        found = np.bincount([tokens[0] for tokens in drawn], minlength=len(wanted)) / 3000
        assert np.abs(found - wanted).max() < 0.03
        assert found[wanted < np.median(wanted)].sum() == pytest.approx(
            wanted[wanted < np.median(wanted)].sum(), abs=0.03
        )


def test_answers_end_at_their_end(lister, foxes):
    torch.manual_seed(0)
    answers = reinforcement.sample(lister, lister.network, encode(lister, foxes, [0, 1]), "comma", 20, 12)
    texts = [lister.tokenizer.decode(tokens) for tokens in answers]
    ended = [text for text in texts if "\n" in text.lstrip()]
    assert len(ended) > 30
    for text in ended:
        assert "\n" not in text.strip()


def test_what_is_malformed(llama):
    eos = llama.tokenizer.eos_token_id
    written = ["joy, fear\n", "none\n", "joy, joy\n", "joy, mirth\n", "joy, fe", "\n\n\n"]
    answers = [vocabulary.encode(llama.tokenizer, text) for text in written]
    answers.append([*vocabulary.encode(llama.tokenizer, "anger"), eos])
    said, malformed = reinforcement.read(llama, answers, ("anger", "fear", "joy"), "comma")
    assert malformed.tolist() == [False, False, True, True, True, True, False]
    assert said[0].tolist() == [False, True, True]
    assert not said[1].any()
    assert said[6].tolist() == [True, False, False]


# -- prompts -----------------------------------------------------------------------------------------------------------
def test_prompts_come_in_epochs_with_fresh_demonstrations(llama, corpus):
    recipe = replace(SMALL, steps=40, train_shots=3)
    asked = reinforcement.draw_prompts(llama, TEMPLATE, corpus, recipe)
    assert sorted(asked["row"][:40]) == sorted(asked["row"][40:]) == list(range(40))
    assert asked["row"][:40].tolist() != asked["row"][40:].tolist()
    for row, prompt in asked.itertuples(index=False):
        shown = [text for text in corpus.documents["text"] if f"Input: {text}\n" in prompt]
        own = corpus.documents["text"].iloc[row]
        assert len(shown) == 4 and prompt.count(f"Input: {own}\n") == 1 and prompt.endswith(f"Input: {own}\n")
    twice = [group["prompt"].tolist() for _, group in asked.groupby("row")]
    assert all(first != second for first, second in twice)
    assert asked.equals(reinforcement.draw_prompts(llama, TEMPLATE, corpus, recipe))


def test_prompts_that_do_not_fit_are_refused(llama, corpus):
    with pytest.raises(FinetuningError, match="8 of 8 prompts are too long"):
        reinforcement.draw_prompts(llama, TEMPLATE, corpus, replace(SMALL, new_tokens=4096))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(reward="bleu"), "f1, marginals"),
        (dict(group=2), "group=2 is too small"),
        (dict(steps=0), "steps=0"),
        (dict(rate=0.0), "above 0"),
        (dict(beta=-1.0), "0 or more"),
    ],
)
def test_recipes_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**changes)


# -- training ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_gradient_is_that_of_whole_answers(lister, foxes, tmp_path, temperature):
    """TRL's loss has the gradient of -mean(advantage x log P(answer)) / new_tokens, over answers of any length."""
    recipe = replace(SMALL, beta=0.0, temperature=temperature)
    asked = reinforcement.draw_prompts(lister, TEMPLATE, foxes, recipe)
    job = Job("rl_marginals", NAME, lister, foxes, recipe, asked["prompt"].tolist(), tmp_path)
    trainer = reinforcement._build(job, TEMPLATE.form, asked)
    try:
        network = trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        torch.manual_seed(0)
        for parameter in network.parameters():
            if parameter.requires_grad:  # an adapter at its start has half of its gradients at zero
                torch.nn.init.normal_(parameter, std=0.05)
        rows = [row for row in list(trainer.train_dataset)[:2] for _ in range(4)]
        batch = trainer._generate_and_score_completions(rows)
        lengths = batch["completion_mask"].sum(1)
        assert len(set(lengths.tolist())) > 1
        assert batch["advantages"].abs().max() > 0.1
        trainer.compute_loss(network, batch).backward()
        found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        network.zero_grad()
        for i in range(8):
            prompt = batch["prompt_ids"][i][batch["prompt_mask"][i] == 1]
            answer = batch["completion_ids"][i][batch["completion_mask"][i] == 1]
            logits = network(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1] / temperature
            likelihood = logits.log_softmax(-1).gather(1, answer[:, None]).sum()
            (-batch["advantages"][i] * likelihood / 8 / recipe.new_tokens).backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4)
    finally:
        trainer.model.unload()


@pytest.fixture(scope="module")
def whole(lister, foxes, tmp_path_factory):
    """A run from beginning to end: the state before it, curve and weights."""
    before = {name: p.clone() for name, p in lister.network.state_dict().items()}
    return before, *tune_and_keep(lister, foxes, SMALL, tmp_path_factory.mktemp("whole"))


def test_a_curve_has_a_row_a_step(whole):
    _, curve, _ = whole
    assert list(curve) == [*adaptation.CURVE, *reinforcement.OWN]
    assert curve["step"].tolist() == [1, 2, 3, 4]
    assert curve["kl"].iloc[0] == pytest.approx(0, abs=1e-6) and curve["kl"].iloc[-1] > 0
    assert curve["seconds"].is_monotonic_increasing and curve["tokens"].is_monotonic_increasing
    assert list(curve.columns[curve.isna().any()]) == ["held_loss"]


def test_the_model_is_as_it_was(whole, lister):
    before, _, kept = whole
    after = lister.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in lister.network.parameters())
    assert any(parameter.abs().sum() > 0 for name, parameter in kept.items() if "lora_B" in name)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, lister, foxes, tmp_path, monkeypatch):
    made, calls = reinforcement._reward, []

    def breaking(*arguments):
        reward = made(*arguments)

        def reward_then_break(**given):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return reward(**given)

        return reward_then_break

    monkeypatch.setattr(reinforcement, "_reward", breaking)
    with pytest.raises(KeyboardInterrupt):
        tune_and_keep(lister, foxes, SMALL, tmp_path)
    (tmp_path / "checkpoints" / NAME / "checkpoint-3").mkdir()  # one that was being written when the run was killed
    monkeypatch.undo()
    curve, kept = tune_and_keep(lister, foxes, SMALL, tmp_path)
    _, wanted_curve, wanted = whole
    columns = [column for column in curve if column != "seconds"]
    np.testing.assert_allclose(curve[columns], wanted_curve[columns], rtol=1e-5, atol=1e-6)
    assert all(torch.allclose(kept[name], wanted[name], atol=1e-6) for name in wanted)


@pytest.mark.parametrize("reward", ["f1", "marginals"])
def test_what_is_rewarded_is_learned(lister, foxes, tmp_path, reward):
    recipe = replace(SMALL, reward=reward, steps=60, prompts_per_step=8, group=8, rate=2e-3, checkpoint_every=100)
    measured = {}

    def measure(network):
        torch.manual_seed(1)
        answers = reinforcement.sample(lister, network, encode(lister, foxes, range(10)), "comma", 60, 12)
        said, malformed = reinforcement.read(lister, answers, foxes.labels, "comma")
        measured["f1"] = metrics.example_f1(said, np.tile(foxes.gold[0], (600, 1))).mean()
        measured["distance"] = ((said[~malformed].mean(0) - VOTES) ** 2).sum()

    measure(lister.network)
    assert measured["f1"] < 0.7 and measured["distance"] > 0.1
    curve = tune(lister, foxes, recipe, tmp_path, measure)
    if reward == "f1":  # always the first two labels, whatever share of annotators chose them
        assert measured["f1"] > 0.8 and curve["f1"][-5:].mean() > 0.75
        np.testing.assert_allclose(curve["reward"], curve["f1"], atol=1e-6)
    else:
        assert measured["distance"] < 0.08 and curve["distance"][-5:].mean() < 0.1


# -- runs that learn nothing -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reward", ["f1", "marginals"])
def test_a_run_without_any_reward_stops(llama, corpus, tmp_path, reward):
    with pytest.raises(FinetuningError, match="2 steps earned a reward .*100% malformed.*SFT adapter"):
        tune(llama, corpus, replace(SMALL, reward=reward, patience=2), tmp_path)


def test_a_run_that_diverges_stops(lister, foxes, tmp_path):
    with pytest.raises(FinetuningError, match="take a lower rate"):
        tune(lister, foxes, replace(SMALL, rate=1e30), tmp_path)
