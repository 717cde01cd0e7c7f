"""Models from GGUF files: float32 safetensors, with a tokenizer that cuts texts as its publisher's does.

A GGUF names the way of cutting in one word (`tokenizer.ggml.pre`). transformers takes GPT-2's way for a word that it
does not know, without saying so, and leaves out normalisers, which no GGUF holds. So each word is looked up here.
llama.cpp on the same file is no reference for logits: it rounds activations to eight bits, log-probabilities of Qwen
2.5 and Gemma 3 lie up to 0.4 from those of the weights in float32 (which transformers meets within 0.0025); nor does it
normalise texts.
"""

from pathlib import Path

import torch
import transformers
from gguf.quants import _type_traits as READ  # what gguf.dequantize looks kinds up in
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.gguf import read_gguf_metadata
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from mlutils.files import checksum, write_json

# Goes up when the same file is unpacked in another way: 2 cuts digits off. Folders and revisions carry it.
UNPACKED = 2
SUFFIX = ".gguf"


# By architecture, kind of vocabulary and `tokenizer.ggml.pre`: the parts of the publisher's tokenizer that transformers
# leaves out. With them SmolLM2's is equal to llama.cpp's on 56,496 documents of our corpora. Qwen 2.5's and Gemma 3's
# are but for one tweet each: llama.cpp knows no NFC, and pairs runs of more than 31 blanks in another order.
KINDS = {
    ("llama", "gpt2", "smollm"): {
        "pre_tokenizer": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),  # of all scripts, and fractions
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    },
    ("qwen2", "gpt2", "qwen2"): {
        "normalizer": normalizers.NFC(),
        "pre_tokenizer": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    },
    ("gemma3", "llama", "default"): {},
}


def unpack(file: Path, folder: Path) -> None:
    """Writes the model of a GGUF file as float32 safetensors with its tokenizer; SmolLM2's takes half a minute.

    What is unpacked is saved as it is, without a second network beside it. Raises OSError where its way of cutting
    texts or its kind of numbers is not known, before anything is written.
    """
    tokenizer = read_tokenizer(file)
    network = _dequantise(file)
    del network.config.quantization_config  # saving is refused while these are there, though nothing is quantised now
    network.hf_quantizer = None
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "origin.json", {"file": file.name, "sha256": checksum(file), "unpacked": UNPACKED})


def _dequantise(file: Path) -> transformers.PreTrainedModel:
    """Returns the network of a GGUF file in float32. Raises OSError for a kind of numbers that cannot be read."""
    arguments = dict(pretrained_model_name_or_path=str(file.parent), gguf_file=file.name)
    try:
        return AutoModelForCausalLM.from_pretrained(**arguments, dtype=torch.float32)
    except NotImplementedError as error:  # gguf's
        raise OSError(
            f"{file} holds numbers that transformers cannot read ({error}); it can read F32, F16, "
            f"{', '.join(sorted(kind.name for kind in READ))}: take a file of one of these kinds"
        ) from error


def read_tokenizer(file: Path) -> transformers.PreTrainedTokenizerBase:
    """Returns the tokenizer in a GGUF file, equal to its publisher's.

    Raises OSError where the file does not say how texts are cut, or in a way that is not known here.
    """
    known, _ = read_gguf_metadata(str(file))  # gguf's own reader takes a hundred times as long
    kind = tuple(known.get(name, "") for name in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"))
    if kind not in KINDS:
        raise OSError(
            f"{file} cuts texts by the pre-tokenizer {kind[2]!r} (architecture {kind[0]!r}, vocabulary {kind[1]!r}), "
            f"which is not known here; known are {', '.join(map(repr, KINDS))}: take the publisher's folder with "
            "safetensors and tokenizer.json, or add its way to KINDS in mlutils/tracing/quantised.py"
        )
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    for part, wanted in KINDS[kind].items():
        setattr(tokenizer.backend_tokenizer, part, wanted)
    return tokenizer
