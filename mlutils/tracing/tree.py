"""The tree of whole labels: labels that begin with the same token are told apart by the tokens that follow it.

The paper reads a label's first token only, so two labels that begin alike are one label to it, said twice. Behind such
a token stands a tree: the tokens of each label that begins with it, up to the one that holds its last character. Where
labels part, the tokens that continue some of them compete in a softmax of their own. A label that ends where another
goes on (`hate`, `hate speech`) is continued by the tokens that may follow a label. The product of these softmaxes along
a label's path, summed over its paths, is its share of the first token; the shares of a token sum to 1.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

Path = tuple[int, ...]  # tokens, from a label's first one on
Behind = Mapping[Path, np.ndarray]  # what a model holds after some paths: logits (B,) of `LabelTree.select`


@dataclass(frozen=True)
class Fork:
    """Where labels part: the tokens up to there, and the tokens that lead on, each with a fork or one label."""

    path: Path
    ways: tuple[tuple[tuple[int, ...], "Fork | int"], ...]  # one token, or all that end a label


class LabelTree:
    """What stands behind the first tokens that several labels begin with, by label number.

    `labels` holds the labels that can be told apart behind each such token: not those whose tokens are also another's.
    `select` lists the tokens that lead on at some fork: B columns of logits are enough there.
    """

    def __init__(self, paths: Sequence[Iterable[Path]], ends: Collection[int]):
        """paths: of each label; ends: the tokens that may follow a label."""
        self._roots: dict[int, Fork | int | None] = {}
        for token in sorted({path[0] for each in paths for path in each}):
            below = [(path[1:], label) for label, each in enumerate(paths) for path in each if path[0] == token]
            if len({label for _, label in below}) > 1:
                self._roots[token] = _grow((token,), below, ends)
        self.labels = {token: set(_leaves(root)) for token, root in self._roots.items()}
        forks = [fork for root in self._roots.values() for fork in _forks(root)]
        self.select = sorted({token for fork in forks for tokens, _ in fork.ways for token in tokens})
        self._column = {token: column for column, token in enumerate(self.select)}

    def forks(self, token: int) -> list[Path]:
        """Returns the tokens up to each fork behind a first token that several labels begin with."""
        return [fork.path for fork in _forks(self._roots[token])]

    def shares(self, token: int, behind: Behind) -> dict[int, float]:
        """Returns the logarithm of each label's share of a first token that several begin with."""
        return self._shares(self._roots[token], behind)

    def _shares(self, place: Fork | int, behind: Behind) -> dict[int, float]:
        if not isinstance(place, Fork):
            return {place: 0.0}
        columns = [[self._column[token] for token in tokens] for tokens, _ in place.ways]
        held = behind[place.path]
        every = logsumexp(held[sum(columns, [])])
        found: dict[int, list[float]] = {}
        for (_, further), own in zip(place.ways, columns, strict=True):
            for label, share in self._shares(further, behind).items():
                found.setdefault(label, []).append(logsumexp(held[own]) - every + share)
        return {label: float(logsumexp(shares)) for label, shares in found.items()}


def _grow(path: Path, below: list[tuple[Path, int]], ends: Collection[int]) -> Fork | int | None:
    """Returns what stands behind a path that some labels (the rest of their tokens, their number) go through."""
    labels = {label for _, label in below}
    if len(labels) == 1:
        return labels.pop()
    further: dict[int, list[tuple[Path, int]]] = {}
    for rest, label in below:
        if rest:
            further.setdefault(rest[0], []).append((rest[1:], label))
    ways = [((token,), _grow((*path, token), each, ends)) for token, each in sorted(further.items())]
    ways = [(tokens, place) for tokens, place in ways if place is not None]
    done = {label for rest, label in below if not rest}
    closing = tuple(sorted(set(ends) - further.keys()))
    if len(done) == 1 and closing:  # several that end here have the same tokens
        ways.append((closing, done.pop()))
    reached = {label for _, place in ways for label in _leaves(place)}
    if len(ways) == 1:
        return ways[0][1]
    return Fork(path, tuple(ways)) if len(reached) > 1 else min(reached, default=None)


def _forks(place: Fork | int | None) -> list[Fork]:
    if not isinstance(place, Fork):
        return []
    return [place, *(fork for _, further in place.ways for fork in _forks(further))]


def _leaves(place: Fork | int | None) -> list[int]:
    if not isinstance(place, Fork):
        return [] if place is None else [place]
    return [label for _, further in place.ways for label in _leaves(further)]
