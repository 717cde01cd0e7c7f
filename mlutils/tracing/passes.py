"""Token trees behind a shared prefix: what they hold of tokens, keys and values, and the attention over them.

The prefix is attended to by all new tokens together, each document's own tree by its own tokens; both are merged by
their log-sum-exp, which is attention over all that a token sees: the prefix and its ancestors. So no document pays for
its neighbours in a pass, and none can change another one's numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

CHANGES = ("softcap", "position_bias", "s_aux")  # of scores, beyond query times key: they would have to be redone
GROW = 64  # nodes by which the store of keys and values grows


def hold(nodes: int) -> int:
    """Returns for how many nodes of a tree there is room where so many are held."""
    return nodes + GROW - nodes % GROW


class Tree:
    """The tokens of one document behind the prefix; each sees the prefix and its own ancestors."""

    def __init__(self, begins: Sequence[int] = ()):
        """begins: the tokens that all paths begin with, by which a document is known again."""
        self.begins = list(begins)
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.children: dict[tuple[int, int], int] = {}  # (parent, token) -> node; the prefix is -1
        self.done = 0  # nodes whose keys and values are stored
        self.states: list[torch.Tensor] = []  # last hidden states of the nodes that are done, pass by pass
        self._chains: list[tuple[int, int, int]] = []  # parent, first node, end of what was added at once
        self._sees = np.zeros((0, 0), bool)

    def add(self, tokens: Sequence[int], parent: int = -1) -> list[int]:
        """Adds a path and returns its nodes; what is there already is not added again."""
        path = []
        for at, token in enumerate(tokens):
            node = self.children.get((parent, token))
            if node is None:
                return path + self._append(tokens[at:], parent)
            path.append(node)
            parent = node
        return path

    def _append(self, tokens: Sequence[int], parent: int) -> list[int]:
        first = len(self.tokens)
        depth = 0 if parent < 0 else self.depths[parent] + 1
        self.tokens += tokens
        self.depths += range(depth, depth + len(tokens))
        nodes = list(range(first, first + len(tokens)))
        self.children.update(zip(zip([parent, *nodes], tokens, strict=False), nodes, strict=True))
        self._chains.append((parent, first, len(self.tokens)))
        return nodes

    @property
    def sees(self) -> np.ndarray:
        """Returns which nodes a node sees, bool (nodes, nodes): its ancestors and itself."""
        if self._chains:
            old, n = len(self._sees), len(self.tokens)
            grown = np.zeros((n, n), bool)
            grown[:old, :old] = self._sees
            for parent, first, end in self._chains:
                if parent >= 0:
                    grown[first:end] = grown[parent]
                grown[first:end, first:end] |= np.tri(end - first, dtype=bool)
            self._sees, self._chains = grown, []
        return self._sees

    def state(self, nodes: Sequence[int]) -> torch.Tensor:
        """Returns the states (nodes, ...) of some nodes that are done."""
        if len(self.states) > 1:
            self.states = [torch.cat(self.states)]
        return self.states[0][list(nodes)]


@dataclass
class Store:
    """Keys and values by layer, (trees, key heads, nodes, size) each."""

    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def put(self, layer: int, trees: int, size: int, at: tuple, key: torch.Tensor, value: torch.Tensor) -> None:
        """Puts keys and values (heads, tokens, size) at their places, (tree, node) each, of `trees` of `size` nodes."""
        if layer not in self.kept or self.kept[layer][0].shape[2] < size:
            self._grow(layer, trees, hold(size), key)
        tree, node = at
        for store, new in zip(self.kept[layer], (key, value), strict=True):
            store[tree, :, node] = new.transpose(0, 1)

    def _grow(self, layer: int, trees: int, size: int, like: torch.Tensor) -> None:
        heads, _, width = like.shape
        # Zeros: a place that nothing was put into has the weight 0, and 0 x NaN would be NaN.
        fresh = tuple(like.new_zeros(trees, heads, size, width) for _ in range(2))
        if layer in self.kept:
            for new, old in zip(fresh, self.kept[layer], strict=True):
                new[:, :, : old.shape[2]] = old
        self.kept[layer] = fresh


@dataclass
class Held:
    """Trees of several documents that are held together, and their keys and values."""

    trees: list[Tree] = field(default_factory=list)
    store: Store = field(default_factory=Store)


@dataclass
class Prefix:
    """The tokens that all sequences begin with, and their keys and values, (1, key heads, tokens, size) a layer."""

    tokens: list[int] = field(default_factory=list)
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def cut(self, length: int) -> None:
        """Drops all tokens from `length` on."""
        self.tokens = self.tokens[:length]
        self.kept = {layer: (k[:, :, :length], v[:, :, :length]) for layer, (k, v) in self.kept.items()}

    def extend(self, tokens: Sequence[int], store: Store) -> None:
        """Appends tokens whose keys and values stand in a store of one tree."""
        self.tokens = [*self.tokens, *tokens]
        for layer, new in store.kept.items():
            new = tuple(each[:, :, : len(tokens)] for each in new)
            if layer in self.kept:
                new = tuple(torch.cat(pair, dim=2) for pair in zip(self.kept[layer], new, strict=True))
            self.kept[layer] = tuple(each.contiguous() for each in new)


class Pass:
    """One pass of the network over new nodes of several trees, and the attention in it."""

    def __init__(self, trees: Sequence[Tree], new: Sequence[range], store: Store, prefix: Prefix, device: torch.device):
        """new: for each tree of the store, its nodes that are computed, which follow those that are done."""
        busy = [number for number, nodes in enumerate(new) if nodes]
        self.low, self.high = busy[0], busy[-1] + 1
        self.trees, self.new, self.store, self.prefix, self.device = trees, new, store, prefix, device
        self.size = max(new[number].stop for number in busy)
        self.most = max(map(len, new))
        number = np.repeat(np.arange(len(new)), [len(nodes) for nodes in new])
        node = np.concatenate([np.arange(nodes.start, nodes.stop) for nodes in new])
        column = np.concatenate([np.arange(len(nodes)) for nodes in new])
        depth = np.array([trees[t].depths[n] for t, n in zip(number, node, strict=True)])
        self.tokens = [trees[t].tokens[n] for t, n in zip(number, node, strict=True)]
        self.place = self._tensor(number), self._tensor(node)
        self.row, self.column = self._tensor(number - self.low), self._tensor(column)
        self.depths = self._tensor(depth)
        self.positions = self.depths + len(prefix.tokens)
        self._masks: dict = {}

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def attend(self, module, query, key, value, attention_mask, scaling=None, sliding_window=None, **options):
        """Returns what an attention function of transformers does: (1, tokens, heads, size), None.

        Raises ValueError where scores are more than query times key.
        """
        if changed := [name for name in CHANGES if options.get(name) is not None]:
            raise ValueError(f"{type(module).__name__} changes its scores by {', '.join(changed)}: it cannot be packed")
        layer, scale = module.layer_idx, query.shape[-1] ** -0.5 if scaling is None else scaling
        self.store.put(layer, len(self.trees), self.size, self.place, key[0], value[0])
        heads, tokens, width = query.shape[1:]
        groups = heads // key.shape[1]
        out, normaliser = self._see_trees(query[0], layer, groups, scale, sliding_window)
        if self.prefix.tokens:
            folded = query.reshape(1, key.shape[1], groups * tokens, width)
            keys, values, mask = self._prefix(layer, groups, sliding_window)
            if keys.shape[2]:
                before, normaliser_before = attend(folded, keys, values, mask, scale)
                before = before.reshape(heads, tokens, -1)
                # The part of the prefix in the whole.
                share = torch.sigmoid(normaliser_before.reshape(heads, tokens) - normaliser)
                out = torch.lerp(out, before, share.to(out.dtype)[..., None])
        return out.transpose(0, 1)[None].contiguous(), None

    def _see_trees(self, query, layer, groups, scale, window) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns attention of queries (heads, tokens, size) within trees, and its log-sum-exp (heads, tokens)."""
        heads, _, width = query.shape
        trees, kept = self.high - self.low, heads // groups
        padded = query.new_zeros(trees, self.most, heads, width)
        padded[self.row, self.column] = query.transpose(0, 1)
        padded = padded.view(trees, self.most, kept, groups, width).permute(0, 2, 3, 1, 4)
        keys, values = (each[self.low : self.high, :, : self.size] for each in self.store.kept[layer])
        mask = self._tree_mask(groups, window, query.dtype)
        out, normaliser = attend(padded.reshape(trees, kept, groups * self.most, width), keys, values, mask, scale)
        out = out.reshape(trees, heads, self.most, -1)[self.row, :, self.column]
        normaliser = normaliser.reshape(trees, heads, self.most)[self.row, :, self.column]
        return out.transpose(0, 1), normaliser.transpose(0, 1)

    def _tree_mask(self, groups: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Returns what each query does not see of its tree, additive (trees, 1, groups * queries, nodes)."""
        deepest = int(self.depths.max())
        window = window if window is not None and window <= deepest else None
        if (groups, window) not in self._masks:
            sees = np.zeros((self.high - self.low, self.most, self.size), bool)
            for place, (tree, nodes) in enumerate(
                zip(self.trees[self.low :], self.new[self.low : self.high], strict=False)
            ):
                if not nodes:
                    continue  # it may be longer than those that have new nodes
                seen = tree.sees[nodes.start : nodes.stop, : nodes.stop]
                if window is not None:
                    depths = np.array(tree.depths[: nodes.stop])
                    seen = seen & (depths[nodes.start :, None] - depths < window)
                sees[place, : len(nodes), : nodes.stop] = seen
            self._masks[groups, window] = self._additive(sees[:, None], groups, dtype)
        return self._masks[groups, window]

    def _prefix(self, layer: int, groups: int, window: int | None):
        """Returns keys and values of the prefix that a query may see, and the mask where not all queries see all."""
        keys, values = self.prefix.kept[layer]
        if window is None or window > int(self.positions.max()):
            return keys, values, None
        # No query sees more than the shallowest one.
        first = min(max(0, int(self.positions.min()) - window + 1), len(self.prefix.tokens))
        key = groups, window, "prefix"
        if key not in self._masks:
            at = torch.arange(first, len(self.prefix.tokens), device=self.device)
            sees = (self.positions[:, None] - at < window).cpu().numpy()
            self._masks[key] = self._additive(sees[None, None], groups, keys.dtype)
        return keys[:, :, first:], values[:, :, first:], self._masks[key]

    def _additive(self, sees: np.ndarray, groups: int, dtype: torch.dtype) -> torch.Tensor:
        """Returns a mask (trees, 1, groups * queries, keys) of bool (trees, 1, queries, keys)."""
        hidden = self._tensor(~sees)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device)
        # Not -inf: a query that sees nothing would be NaN; so it has no weight beside the other part.
        return mask.masked_fill_(hidden, torch.finfo(dtype).min).repeat(1, 1, groups, 1)


def attend(query, key, value, mask: torch.Tensor | None, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns attention (batch, heads, queries, size), and the log-sum-exp of its scores without the last dimension.

    mask: additive. On cores by torch's flash kernel, elsewhere by plain products.
    """
    if query.device.type == "cpu":
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return flash(query, key, value, 0.0, False, attn_mask=mask, scale=scale)
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores + mask
    normaliser = scores.logsumexp(-1)
    return (scores - normaliser[..., None]).exp().to(value.dtype) @ value, normaliser
