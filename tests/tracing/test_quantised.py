"""Tokenizers from GGUF files cut texts as their publishers' do: tokens by hand, from files that are written here."""

import json
import shutil
from itertools import product
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from mlutils import capacity, paths, sources
from mlutils.files import checksum
from mlutils.tracing import models, quantised, vocabulary

Q8 = gguf.GGMLQuantizationType.Q8_0
SMOLLM2 = paths.cache() / "models" / f"{models.DEFAULT}-{quantised.UNPACKED}"
# `Ġ` is the byte of a blank, `Ċ` of a line break. These merges tell the ways of cutting apart.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [*"0123456789.apm", "Ġ", "Ċ", "Â", "½", "²", "e", "Ì", "ģ", "Ã", "©"]
PAIRS = ["ĠĠ", "ĊĊ", "ĊĠ", "ĠÂ", "Â½", "Â²", "½Â", "12", "Ġ7", "Ġa", "pm", "Ã©"]
TOKENS = [*SPECIAL, *BYTES, *PAIRS]


def write(file, architecture="llama", pre="smollm", tensors=()):
    """Writes a GGUF file. tensors: name, values, and their kind where these are not floats."""
    writer = GGUFWriter(file, architecture)
    for name, value in (("context_length", 64), ("embedding_length", 32), ("block_count", 1)):
        getattr(writer, f"add_{name}")(value)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges([f"{pair[0]} {pair[1]}" for pair in PAIRS])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for tensor in tensors:
        writer.add_tensor(*tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def reloaded(file, folder):
    """Returns the tokenizer as a run has it: from the folder that was made."""
    quantised.read_tokenizer(file).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": file.stem}))
    return AutoTokenizer.from_pretrained(folder)


SMOLLM = {
    "a 7": ["a", "Ġ", "7"],  # no blank is joined with a digit, though the pair stands in the vocabulary
    "a  7pm": ["a", "ĠĠ", "7", "pm"],
    "a\n7": ["a", "Ċ", "7"],
    "a\n\n7": ["a", "ĊĊ", "7"],
    "a\n 7": ["a", "ĊĠ", "7"],
    "12 12.12": ["1", "2", "Ġ", "1", "2", ".", "1", "2"],
    " ½²½": ["Ġ", "Â½", "Â²", "Â½"],  # numerals of other kinds stand alone as well
    "12  a": ["1", "2", "Ġ", "Ġa"],
    "é": ["Ã©"],
    "e\u0301": ["e", "Ì", "ģ"],  # not normalised
    "<|im_end|>7": ["<|im_end|>", "7"],
}
QWEN = SMOLLM | {
    "a  7pm": ["a", "Ġ", "Ġ", "7", "pm"],
    "a\n 7": ["a", "Ċ", "Ġ", "7"],
    "e\u0301": ["Ã©"],  # NFC joins them
}


@pytest.mark.parametrize(("architecture", "pre", "wanted"), [("llama", "smollm", SMOLLM), ("qwen2", "qwen2", QWEN)])
def test_texts_are_cut_as_the_file_says(architecture, pre, wanted, tmp_path):
    file = write(tmp_path / f"{architecture}.gguf", architecture, pre)
    tokenizers = quantised.read_tokenizer(file), reloaded(file, tmp_path)
    for (text, tokens), tokenizer in product(wanted.items(), tokenizers):
        assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == tokens, text
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == ("é" if tokens == ["Ã©"] else text)


def test_nothing_else_of_the_tokenizer_is_lost(tmp_path):
    tokenizer = reloaded(write(tmp_path / "llama.gguf"), tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (1, 2, len(TOKENS))
    assert vocabulary.framing(tokenizer) == ([], [])
    assert tokenizer.apply_chat_template([{"content": "a 7"}], tokenize=False) == "a 7"
    assert tokenizer.convert_tokens_to_ids(SPECIAL) == [0, 1, 2]
    assert "<|im_end|>" not in tokenizer.convert_ids_to_tokens(vocabulary.encode(tokenizer, "a 7 a"))


@pytest.mark.parametrize("pre", ["starcoder", "llama-bpe", "default", ""])
def test_another_way_of_cutting_is_refused_by_name(pre, tmp_path):
    with pytest.raises(OSError, match=f"pre-tokenizer '{pre}' .*not known here; known are .*'smollm'.*'qwen2'"):
        quantised.unpack(write(tmp_path / "llama.gguf", pre=pre), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_model_that_was_unpacked_before_is_not_taken(tmp_path, monkeypatch):
    """Its tokenizer did not cut digits off, its folder and revision were the file's checksum alone."""
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path))
    origin = '{"sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}'
    before = tmp_path / "models" / models.DEFAULT
    before.mkdir(parents=True)
    (before / "origin.json").write_text(origin)
    monkeypatch.setattr(sources, "fetch", lambda name: tmp_path / name)
    monkeypatch.setattr(capacity, "count_parameters", lambda model: 1)
    monkeypatch.setattr(quantised, "unpack", lambda file, folder: (folder / "origin.json").write_text(origin))
    folder, revision = models.locate(models.DEFAULT)
    assert folder != str(before) and revision == "b179c9523d0e6a0f-2"


NAMES = {  # of qwen2, in a layer and outside
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A random Qwen 2 whose matrices are rounded to eight bits, and the GGUF file of it; the cache is empty."""
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(1)
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    config = Qwen2Config(vocab_size=len(TOKENS), num_key_value_heads=1, max_position_embeddings=64, **shape)
    network = Qwen2ForCausalLM(config).eval()
    network.config.rms_norm_eps = network.model.norm.variance_epsilon = 1e-5
    for layer in network.model.layers:
        layer.input_layernorm.variance_epsilon = layer.post_attention_layernorm.variance_epsilon = 1e-5
    tensors = []
    for name, values in network.state_dict().items():
        for own, other in NAMES.items():
            name = name.replace(own, other)
        values.mul_(3)
        if values.ndim == 1:
            tensors.append((name, values.numpy()))
        else:
            packed = gguf.quantize(values.numpy(), Q8)
            values.copy_(torch.from_numpy(gguf.dequantize(packed, Q8)))
            tensors.append((name, packed, None, Q8))
    return network, write(tmp_path / "small.gguf", "qwen2", "qwen2", tensors), tensors


@torch.no_grad()
def test_a_gguf_file_is_a_model_by_its_path(small, monkeypatch):
    """An output matrix of its own, biases, and numbers of eight bits come out as they are in the file."""
    network, file, _ = small
    model = models.load(str(file), "cpu", "float32")
    ids = torch.arange(3, 20)[None]
    assert torch.allclose(model.network(ids).logits, network(ids).logits, atol=1e-5)
    assert not model.network.config.tie_word_embeddings and model.network.num_parameters() == network.num_parameters()
    assert model.revision == f"{checksum(file)[:16]}-{quantised.UNPACKED}" and model.packed
    monkeypatch.setattr(quantised, "unpack", lambda *given: pytest.fail("it is there"))
    again = models.load(str(file), "cpu", "float32")
    assert torch.equal(again.network(ids).logits, model.network(ids).logits)
    with pytest.raises(OSError, match=r"model file '/no/such.gguf' does not exist"):
        models.load("/no/such.gguf")


def test_numbers_of_a_kind_that_cannot_be_read_are_refused_with_those_that_can(small, tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_1
    name, packed, *_ = small[2][0]
    raw = np.zeros((len(packed), packed.shape[1] // 34 * gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    file = write(tmp_path / "other.gguf", "qwen2", "qwen2", [(name, raw, None, kind), *small[2][1:]])
    with pytest.raises(OSError, match=r"other.gguf holds numbers .*Q8_1 .*it can read F32, F16, .*Q4_K.*Q8_0"):
        models.load(str(file), "cpu", "float32")
    assert [each.suffix for each in (paths.cache() / "models").iterdir()] == [".lock"]


def test_what_a_killed_process_left_of_a_model_is_removed(small, monkeypatch):
    _, file, _ = small
    folder, _ = models.locate(str(file))
    shutil.rmtree(folder)
    left = paths.cache() / "models" / ".making-killed" / Path(folder).name
    other = paths.cache() / "models" / ".making-alive" / "another"
    for each in (left, other):
        each.mkdir(parents=True)
    assert models.locate(str(file))[0] == folder
    assert not left.parent.exists() and other.exists()


@pytest.mark.skipif(not SMOLLM2.exists(), reason=f"{models.DEFAULT} is not in the cache")
def test_smollm2_cuts_digits_off():
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    for text, ids in {  # llama.cpp's
        "a  7": [81, 256, 39],
        "a\n\n7": [81, 1116, 39],
        "at 7pm": [261, 216, 39, 11043],
        "x ٣٤ ½": [104, 216, 164, 113, 164, 114, 216, 16738],
    }.items():
        assert vocabulary.encode(tokenizer, text) == ids
