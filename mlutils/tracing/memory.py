"""How many tokens of documents may be held at once: a share of the memory that is free, in keys and values.

What is free is the least of the machine's available memory and what the control groups of the process leave of their
limits (containers, SLURM jobs), or the memory of the GPUs.
"""

from dataclasses import dataclass

from mlutils.tracing.models import Model
from mlutils.tracing.weights import measure_free

SHARE = 0.25  # of what is free: two runs may ask beside each other, and documents are not all that grows
MOST = 16384  # tokens: more gain nothing
LEAST = 512  # tokens: a document and its questions, mostly
SEEN = 2048  # tokens of prefix and document that a pass attends to, where its own need is estimated
READ = 2**23  # logits that are computed at once


@dataclass(frozen=True)
class Budget:
    """What documents may take of the memory."""

    tokens: int  # that are held together; a document that is larger is held alone
    free: float  # bytes
    token: int  # bytes that a token takes

    def check(self, tokens: int) -> None:
        """Raises MemoryError where a document with its questions does not fit into all that is free."""
        if tokens * self.token > self.free:
            raise MemoryError(
                f"a document with its questions or its answer is {tokens:,} tokens, whose keys and values take "
                f"{tokens * self.token / 2**30:.1f} GiB; {self.free / 2**30:.1f} GiB are free: take shorter documents, "
                "fewer questions (pairs sparse), a smaller model or dtype, or end other programs"
            )


def plan(model: Model, row: int) -> Budget:
    """Returns what documents may take of what is free now, beside the needs of a pass of `row` tokens."""
    devices = {parameter.device for parameter in model.network.parameters()}
    free = min(map(measure_free, devices)) * len(devices)  # layers are spread evenly over several
    token = count_bytes(model)
    tokens = int(SHARE * (free - _count_pass(model, row)) / token)
    return Budget(min(MOST, max(LEAST, tokens)), free, token)


def count_bytes(model: Model) -> int:
    """Returns how many bytes a held token takes: its keys and values in all layers, and its last state.

    Layers that see a window hold all tokens, too: branches of a tree may begin before it.
    """
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (2 * config.num_hidden_layers * heads * size + config.hidden_size) * model.dtype.itemsize


def _count_pass(model: Model, row: int) -> int:
    """Returns about how many bytes a pass itself needs: its states, its masks or scores, its logits."""
    config, size = model.config, model.dtype.itemsize
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    groups = config.num_attention_heads // (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    # The kernel on cores needs the mask alone; elsewhere scores are there three times, in float32.
    seen = groups * (size + 1) if model.device.type == "cpu" else 12 * config.num_attention_heads
    return row * (6 * config.hidden_size + 4 * inner) * size + row * SEEN * seen + 24 * READ
