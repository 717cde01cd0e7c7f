"""Matrix products in float32 on cores: torch's own, or oneDNN's with weights that are packed once.

On processors with AVX-512 packed products take about half of the time; on others they may take as long or longer. So
both are tried for some milliseconds.
"""

import time

import torch
from torch import nn

GAIN = 1.4  # how many times faster packed products must be: with AVX-512 they are twice as fast, without about as fast
TRIED = 128  # tokens a product is tried with, as in a pass
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
    if not layers or not fits or not torch.backends.mkldnn.is_available() or _gain(layers.values()) < GAIN:
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
def _gain(layers) -> float:
    """Returns how many times faster a packed product of the commonest shape is."""
    shapes = [tuple(layer.weight.shape) for layer in layers]
    layer = next(each for each in layers if tuple(each.weight.shape) == max(set(shapes), key=shapes.count))
    packed, states = PackedLinear(layer), torch.randn(TRIED, layer.in_features)
    return _seconds(layer, states) / _seconds(packed, states)


def _seconds(layer: nn.Module, states: torch.Tensor) -> float:
    """Returns the least time of some products; the first one is not counted."""
    layer(states)
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        layer(states)
        taken.append(time.perf_counter() - started)
    return min(taken)
