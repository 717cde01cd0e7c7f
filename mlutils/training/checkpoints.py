"""Checkpoints of our own training loops, so that a killed run goes on where it stopped."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mlutils.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds the states of a run's parts behind a key; without a path nothing is kept."""

    path: Path | None
    key: str  # a hash of what decides the training
    parts: Mapping[str, object]  # network, optimizer, ...: what has a state
    error: type[Exception]  # that is raised for a file that does not fit

    def save(self, **notes) -> None:
        """Writes the states of the parts, and notes."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as draft:
            states = {name: part.state_dict() for name, part in self.parts.items()}
            torch.save({"key": self.key, **notes, **states}, draft)

    def resume(self) -> dict:
        """Returns what was saved once the parts are in their states, {} where nothing was.

        Raises the checkpoint's error where the file cannot be read, or is of another key.
        """
        if self.path is None or not self.path.exists():
            return {}
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as cause:
            raise self.error(
                f"{self.path} cannot be read as a checkpoint ({cause}): remove it to start again"
            ) from cause
        refuse_other(saved["key"], self.key, self.path, self.error)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        return saved


def refuse_other(found: str, key: str, place: Path, error: type[Exception]) -> None:
    """Raises `error` where the key found in a place is not that of the training that is to go on there."""
    if found != key:
        raise error(
            f"{place} is of another recipe or of other documents: remove it, or take another folder for the run"
        )
