#!/usr/bin/env bash
# A tokenizer that transformers reads from a GGUF file cuts texts as GPT-2's wherever it does not know the file's pre-tokenizer.
#
# Guess before it was run: a GGUF names how texts are cut (`tokenizer.ggml.pre`), transformers reads that field, so a name
# that it does not know is an error or at least a warning; and a tokenizer is the same before saving and after loading.
# Seen (transformers 5.23.0, gguf 0.19.0, tokenizers 0.23.3): `smollm` (llama.cpp: every digit alone, then GPT-2's way) and
# a name that does not exist both give GPT-2's way, and nothing is said: a blank or line break before a digit is another
# token. For `qwen2` the way of cutting is right, but NFC, which the publisher's tokenizer has, is not there; it comes
# back when the tokenizer is saved and loaded, so that the same text has other tokens then.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0 tokenizers==0.23.3
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import json, logging, os
import gguf, transformers
from transformers import AutoTokenizer

said = []
logging.getLogger("transformers").addHandler(type("Kept", (logging.Handler,), {"emit": lambda self, each: said.append(each.getMessage())})())
tokens = ["<|end|>", "a", "7", "e", "Ġ", "Ċ", "Ì", "ģ", "Ã", "©", "ĠĠ", "ĊĊ", "Ã©"]


def write(architecture, pre):
    writer = gguf.GGUFWriter(f"{architecture}-{pre}.gguf", architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ġ Ġ", "Ċ Ċ", "Ã ©"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoTokenizer.from_pretrained(".", gguf_file=f"{architecture}-{pre}.gguf")


def cut(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


for pre in ("smollm", "no-such-name"):
    found = [cut(write("llama", pre), text) for text in ("a  7", "a\n\n7")]
    print(f"{pre:13} a, two blanks or line breaks, 7:", *found, "| messages:", said)
    assert found == [["a", "Ġ", "Ġ", "7"], ["a", "Ċ", "Ċ", "7"]] and not said, found  # smollm's are ĠĠ and ĊĊ
qwen, text = write("qwen2", "qwen2"), "e\u0301"
qwen.save_pretrained("saved")
with open("saved/config.json", "w") as file:
    json.dump({"model_type": "qwen2"}, file)
found = [cut(each, text) for each in (qwen, AutoTokenizer.from_pretrained("saved"))]
print("qwen2         e and a combining accent, from the file and after saving:", *found)
assert found == [["e", "Ì", "ģ"], ["Ã©"]], found
print("as seen: transformers", transformers.__version__)
PY
