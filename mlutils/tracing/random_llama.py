"""A small random Llama: tests of exactness need no more."""

import copy
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from mlutils.tracing import prompts


def make(folder: Path) -> None:
    """Writes a Llama of two layers with random weights and a byte-level BPE tokenizer: exactness tests need no more."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_sentences(), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<eos>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(copy.deepcopy(config))
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(4)  # sharper than the usual start: distances between logits can be seen
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _sentences() -> list[str]:
    """Returns the wording of the prompts: words enough to train a small tokenizer on."""
    lists = [text for each in prompts.TEMPLATES.values() for text in (each.instruction, each.demonstration)]
    answers = " ".join(f" {word}" for word in prompts.UNARY_ANSWERS)
    return [*lists, prompts.UNARY, prompts.UNARY_QUESTION, answers, "joy anger fear sadness surprise"]
