"""Which engine asks a model, and what is too long for it."""

from mlutils.tracing.engine import PackedEngine
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine


def start_engine(model: Model):
    """Returns the engine that fits a model: packed tries, or padded batches where packing would be wrong."""
    return PackedEngine(model) if model.packed else PaddedEngine(model)


def too_long(model: Model, tokens: int) -> ValueError | None:
    """Returns what a document fails with where prompt and answer together do not fit the model, else None."""
    if tokens <= model.context:
        return None
    return ValueError(f"too long: {tokens} tokens with its answer, {model.name} holds {model.context}")
