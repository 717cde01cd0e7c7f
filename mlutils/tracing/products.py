"""Matrix products in float32 on cores: torch's own, or oneDNN's with weights that are packed once.

Packed products take between half of the time (Intel's processors with AVX-512) and a little more than all of it; they
gain most in the short passes that write lists. So both are tried for some milliseconds.
"""

import time
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

ROUNDS = 8  # tries of each product, in turn; the fastest one counts, so that other work on the machine does not
TRIED = (32, 256)  # tokens that products are tried with: of a pass that writes lists, and of one that asks questions
SPARE = 2**27  # numbers: a larger head that shares its weights with the embeddings stays, as both copies would


class PackedLinear(nn.Module):
    """A linear layer whose weights are packed for oneDNN, in the place of its own ones."""

    def __init__(self, linear: nn.Linear, copies: bool = False):
        """copies: the layer's own weights stay elsewhere, so these do not count as parameters."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        if copies:
            self.register_buffer("weight", packed, persistent=False)
        else:
            self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns states (..., in) times the weights, plus the bias: (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")


def choose(network: nn.Module) -> str:
    """Packs the linear layers of a network that is only asked from now on, where that is faster; names the products.

    `packed` or `plain`. The weights that were there are given up, so a packed network can be neither trained nor saved.
    """
    layers = {name: layer for name, layer in network.named_modules() if type(layer) is nn.Linear}
    if any(type(layer) is PackedLinear for layer in network.modules()):
        return "packed"
    fits = all(layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu" for layer in layers.values())
    if not layers or not fits or not torch.backends.mkldnn.is_available() or _gain(network, layers.values()) <= 1:
        return "plain"
    embedded = network.get_input_embeddings().weight
    for name, layer in layers.items():
        shared = layer.weight is embedded
        if not shared or layer.weight.numel() <= SPARE:
            network.set_submodule(name, PackedLinear(layer, shared))
            if not shared:
                layer.weight = None
    return "packed"


@torch.inference_mode()
def _gain(network: nn.Module, layers: Iterable[nn.Linear]) -> float:
    """Returns how many times faster packed products of all layers are, the head apart, which reads few tokens."""
    layers = [layer for layer in layers if layer is not network.get_output_embeddings()]
    shapes, plain, packed = Counter(layer.weight.shape for layer in layers), 0.0, 0.0
    for shape, layer in {layer.weight.shape: layer for layer in layers}.items():
        both = layer, PackedLinear(layer)
        for states in (torch.randn(tokens, layer.in_features) for tokens in TRIED):
            taken = [[_seconds(each, states) for each in both] for _ in range(ROUNDS)]
            fastest = [min(times) for times in zip(*taken, strict=True)]
            plain, packed = plain + shapes[shape] * fastest[0], packed + shapes[shape] * fastest[1]
    return plain / packed


def _seconds(layer: nn.Module, states: torch.Tensor) -> float:
    started = time.perf_counter()
    layer(states)
    return time.perf_counter() - started
