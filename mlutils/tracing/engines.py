"""Which engine asks a model, what is too long for it, and what it holds behind first tokens that labels share."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlutils.tracing.engine import BadLogits, PackedEngine
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.vocabulary import LabelTokens


def start_engine(model: Model):
    """Returns the engine that fits a model: packed trees, or the padded one where packing would be wrong."""
    return PackedEngine(model) if model.packed else PaddedEngine(model)


def too_long(model: Model, tokens: int) -> ValueError | None:
    """Returns what a document fails with where prompt and answer together do not fit the model, else None."""
    if tokens <= model.context:
        return None
    return ValueError(f"too long: {tokens} tokens with its answer, {model.name} holds {model.context}")


def read_on(
    model: Model,
    engine: PackedEngine | PaddedEngine,
    label_tokens: LabelTokens,
    places: Mapping[int, Sequence[tuple[Sequence[int], np.ndarray]]],
) -> dict:
    """Returns by document what `LabelTokens.describe` needs from behind each of its places, or the error it fails with.

    places: by document, where a label begins: the tokens before, and the logits (K,) of `select` there. A document
    whose labels are told apart by first tokens costs nothing.
    """
    forks = {row: [label_tokens.forks(logits) for _, logits in each] for row, each in places.items()}
    groups = {
        row: [[*before, *path] for (before, _), paths in zip(each, forks[row], strict=True) for path in paths]
        for row, each in places.items()
    }
    outcomes = {row: too_long(model, max(map(len, group), default=0)) for row, group in groups.items()}
    asked = [row for row, group in groups.items() if group and outcomes[row] is None]
    answers = engine.read([groups[row] for row in asked], label_tokens.tree.select) if asked else []
    read = dict(zip(asked, answers, strict=True))
    for row in places:
        if isinstance(read.get(row), BadLogits):
            outcomes[row] = read[row]
        elif outcomes[row] is None:
            logits = iter(read[row][0] if row in read else ())
            outcomes[row] = [{path: next(logits) for path in paths} for paths in forks[row]]
    return outcomes
