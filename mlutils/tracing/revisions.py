"""What a model folder holds, as one checksum: a folder's name says nothing about its weights."""

import hashlib
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mlutils.files import checksum

# What answers depend on: weights, configs, and the files of all kinds of tokenizers.
DECIDES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
)


def fingerprint(folder: Path | str) -> str:
    """Returns a hash of the weights, the configs and the tokenizer in a model's folder, 16 characters."""
    files = sorted({file for pattern in DECIDES for file in Path(folder).glob(pattern) if file.is_file()})
    known = hashlib.sha256()
    for file in files:
        state = file.stat()
        known.update(f"{file.name} {_checksum(file, state.st_size, state.st_mtime_ns)}\n".encode())
    return known.hexdigest()[:16]


def find_damaged(folder: Path | str) -> list[str]:
    """Returns the weight files in a model's folder that cannot be read."""
    damaged = []
    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError:
            damaged.append(str(file))
    return damaged


@lru_cache(maxsize=1024)
def _checksum(file: Path, size: int, changed: int) -> str:
    # Size and time are there for the cache: weights are read once a run as long as nobody writes them.
    return checksum(file)
