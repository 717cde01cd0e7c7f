"""Checkpoints of our own training loops: states by name behind a key, so that a killed run goes on where it stopped."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from mlutils.files import replacing


def save(path: Path, key: str, parts: Mapping[str, object], **notes) -> None:
    """Writes the states of the parts (network, optimizer, ...) and notes; under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        torch.save({"key": key, **notes, **{name: part.state_dict() for name, part in parts.items()}}, draft)


def resume(path: Path, key: str, parts: Mapping[str, object], error: type[Exception]) -> dict:
    """Returns a checkpoint's content once its parts are in the states that it holds.

    Raises `error`, the caller's own, where it cannot be read, or its key says that it is of something else.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as cause:
        raise error(f"{path} cannot be read as a checkpoint ({cause}); remove it to start again") from cause
    if saved["key"] != key:
        raise error(f"{path} is of another recipe or of other documents; remove it or take another folder")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved
