"""Tokenizers from GGUF files cut texts as their publishers' do: tokens by hand, from files that are written here."""

import json
from itertools import product

import pytest
from gguf import GGUFWriter
from transformers import AutoTokenizer

from mlutils import paths, sources
from mlutils.tracing import models, quantised, vocabulary

SMOLLM2 = paths.cache() / "models" / f"{models.DEFAULT}-{quantised.UNPACKED}"
# `Ġ` is the byte of a blank, `Ċ` of a line break. These merges tell the ways of cutting apart.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [*"0123456789.apm", "Ġ", "Ċ", "Â", "½", "²", "e", "Ì", "ģ", "Ã", "©"]
PAIRS = ["ĠĠ", "ĊĊ", "ĊĠ", "ĠÂ", "Â½", "Â²", "½Â", "12", "Ġ7", "Ġa", "pm", "Ã©"]
TOKENS = [*SPECIAL, *BYTES, *PAIRS]


def write(file, architecture="llama", pre="smollm"):
    writer = GGUFWriter(file, architecture)
    for name, value in (("context_length", 64), ("embedding_length", 8), ("block_count", 1)):
        getattr(writer, f"add_{name}")(value)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
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
    monkeypatch.setattr(quantised, "unpack", lambda file, folder: (folder / "origin.json").write_text(origin))
    folder, revision = models.locate(models.DEFAULT)
    assert folder != str(before) and revision == "b179c9523d0e6a0f-2"


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
