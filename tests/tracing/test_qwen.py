"""Qwen 2.5 by name: the same code from the loader to a trace as for Llama, against plain prompts (Fig. 13-15)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from mlutils.tracing import models, prompts, views, vocabulary
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import PackedEngine
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView

WINDOW = dict(use_sliding_window=True, sliding_window=32, max_window_layers=1)
DOCUMENTS = (0, 17, 39)
ANSWER = " joy, anger\n"


def write_qwen(folder, llama, **config):
    """Writes a random Qwen 2 of three layers with two key heads for four query heads, as the hub holds it.

    States are near the embedding of the last token, so a final layer can be written down that says ANSWER.
    """
    sizes = dict(
        vocab_size=len(llama.tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=False,
        eos_token_id=llama.tokenizer.eos_token_id, pad_token_id=llama.tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Qwen2ForCausalLM(Qwen2Config(**sizes, **config))
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(4)
            else:  # the biases of queries, keys and values start as zeros, which would test nothing
                parameter.data.add_(0.2 * torch.randn_like(parameter))
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight.data.mul_(0.15)
            layer.mlp.down_proj.weight.data.mul_(0.15)
        answer = vocabulary.encode(llama.tokenizer, ANSWER)
        states = network.model.embed_tokens.weight[[answer[-1], *answer[:-1]]]  # prompts end with a line break, too
        dual = torch.linalg.pinv(states).T  # states @ dual.T is the identity
        final = torch.randn_like(network.lm_head.weight) / 3
        network.lm_head.weight.data = final - final @ states.T @ dual
        network.lm_head.weight.data[answer] += 7 * dual
    network.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["full", "sliding"])
def qwen(request, llama, tmp_path_factory):
    config = WINDOW if request.param == "sliding" else {}
    return models.load(write_qwen(tmp_path_factory.mktemp("qwen"), llama, **config), device="cpu", dtype="float32")


def prompting(corpus, form="json"):
    return Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes", form=form))


def plain_pass(model, text, answer=()):
    """Logits of a plain pass over a whole prompt and some tokens of its answer, from the prompt's last token on."""
    ids = vocabulary.encode_prompts(model.tokenizer, [text])[0]
    with torch.inference_mode():
        return model.network(torch.tensor([ids + list(answer)])).logits[0, len(ids) - 1 :].double().numpy()


def test_only_full_attention_is_packed(qwen, corpus):
    kinds = qwen.network.config.layer_types
    engine = ListView(qwen, prompting(corpus)).engine
    assert qwen.network.config.model_type == "qwen2" and len(kinds) == 3
    if "sliding_attention" in kinds:
        assert qwen.packed and type(engine) is PackedEngine
    else:
        assert qwen.packed and type(engine) is PackedEngine


def test_a_window_changes_what_is_said(llama, corpus, tmp_path):
    """Without this, the padded case below could pass with a window that does nothing."""
    wide = models.load(write_qwen(tmp_path / "wide", llama), "cpu", "float32")
    narrow = models.load(write_qwen(tmp_path / "narrow", llama, **WINDOW), "cpu", "float32")
    text = prompting(corpus).list_prompt(0)
    assert np.abs(plain_pass(wide, text) - plain_pass(narrow, text)).max() > 0.01


@pytest.mark.parametrize("kind", ["unary", "pairwise"])
def test_questions_are_those_of_plain_prompts(kind, qwen, corpus):
    asked = prompting(corpus)
    view = views.VIEWS[kind](qwen, asked)
    tables, _ = view.ask(DOCUMENTS)
    texts = [text for row in DOCUMENTS for text in getattr(asked, f"{kind}_prompts")(row)]
    assert len(tables["questions"]) == len(texts) and not tables["failures"]
    for question, text in zip(tables["questions"], texts, strict=True):
        logits = plain_pass(qwen, text)[0]
        assert np.abs(logits[view.select] - question["logits"]).max() < 1e-4
        assert question["mass"] == pytest.approx(np.exp(logits - np.logaddexp.reduce(logits))[view.select].sum(), 1e-3)


def test_label_steps_hold_the_logits_of_plain_prompts(qwen, corpus):
    asked = prompting(corpus, "comma")
    view = ListView(qwen, asked)
    tables, states = view.ask(DOCUMENTS)
    assert [answer["text"] for answer in tables["answers"]] == [ANSWER] * len(DOCUMENTS)
    ids = vocabulary.encode(qwen.tokenizer, ANSWER)
    texts = [qwen.tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
    steps = iter(tables["steps"])
    for row in DOCUMENTS:
        logits = plain_pass(qwen, asked.list_prompt(row), ids)
        assert logits.argmax(axis=1)[: len(ids)].tolist() == ids, "not the greedy answer"
        for label in ("joy", "anger"):
            at = max(i for i, before in enumerate(texts) if len(before) <= ANSWER.index(label))
            step = next(steps)
            assert step["label"] == label
            assert (
                np.abs(
                    np.array([logits[at, tokens].max() for tokens in view.label_tokens.first]) - step["logits"]
                ).max()
                < 1e-4
            )
    assert next(steps, None) is None and states.shape == (len(DOCUMENTS), 48) and np.isfinite(states).all()


def test_a_trace_of_a_qwen_is_whole(qwen, corpus, tmp_path):
    few = replace(corpus, documents=corpus.documents[:6], gold=corpus.gold[:6], votes=corpus.votes[:6],
                  annotators=corpus.annotators[:6])  # fmt: skip
    asked = Prompting(few, corpus, draw(corpus, 4), prompts.template("foxes", form="comma"))
    trace = views.write_trace(tmp_path, qwen, asked, ["list", "unary", "pairwise"])
    assert trace.settings["model"] == qwen.name and trace.complete().all()
    assert np.isfinite(trace.step_logits()).all() and trace.said()[:, [0, 2]].all()
    wins = trace.pairwise_wins()
    assert np.isfinite(wins[:, ~np.eye(4, dtype=bool)]).all() and np.isfinite(trace.unary_logits()).all()
