"""A network's head: all that lies between its last states and its logits.

A head is more than a matrix: Granite divides logits, Cohere multiplies them, Gemma caps them. So it is the network
itself that computes them. Its matrix is multiplied in float32, whatever the network's own type: bfloat16 has eight
bits, in which different logits become equal.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.modeling_outputs import MoeModelOutputWithPast

BLOCK = 2**26  # numbers of a matrix that are in memory as float32 at once


class Float32Head(nn.Linear):
    """A linear output layer of lower precision that shares its weights and multiplies in float32."""

    def __init__(self, head: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight, self.bias = head.weight, head.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns logits (..., V), float32, of states (..., H)."""
        states, size = states.to(self.weight.device, torch.float32), max(1, BLOCK // self.in_features)
        with torch.autocast(self.weight.device.type, enabled=False):
            blocks = [nn.functional.linear(states, block.float()) for block in self.weight.split(size)]
        logits = torch.cat(blocks, dim=-1)
        return logits if self.bias is None else logits + self.bias.float()


def use_float32(network: nn.Module) -> None:
    """Makes the head of a network of lower precision multiply in float32; its weights stay as they are."""
    head = network.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype in (torch.bfloat16, torch.float16) and not head.weight.is_meta:
        network.set_output_embeddings(Float32Head(head))


def read_out(network: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Returns the logits (B, N, V) that a network has for last states (B, N, H), which came from its decoder."""
    with _standing_in(network.get_decoder(), states):
        tokens = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
        return network(input_ids=tokens, use_cache=False).logits


@contextmanager
def _standing_in(decoder: nn.Module, states: torch.Tensor) -> Iterator[None]:
    """Makes a decoder give these states, whatever it is asked, while it is open."""
    own = vars(decoder).get("forward")  # where a library has put one in the place of the class's
    decoder.forward = lambda *_, **__: MoeModelOutputWithPast(last_hidden_state=states)
    try:
        yield
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own
