"""Exact marginals of a generator of label lists: best-first expansion of the tree of lists, with certified bounds.

The generator's model of a list: first comes a label or none, and none is the empty set. After a label the list
stops, or goes on with another element. None after a label ends the list with the labels said so far. A label that is
said again is, with `repeats="kept"`, a step like any other that adds nothing to the set; with `repeats="excluded"`
its share (and none's after the first step) goes to the labels not yet said, and the list stops where there is none.

Which lists are asked for is decided here and nothing else; the engine asks a model, readouts a stored trace.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

Prefix = tuple[int, ...]  # label numbers in the order said
REPEATS = ("kept", "excluded")
SMALLEST_WAVE = 8  # nodes: smaller waves save few nodes and cost a pass each


@dataclass(frozen=True)
class Marginals:
    """What is known about the set that a generator says: finished sets with their mass, and lists still open."""

    labels: int
    sets: dict[frozenset[int], float]
    open: dict[Prefix, float]
    asked: int = 0
    waves: int = 0

    @property
    def low(self) -> np.ndarray:
        """Returns lower bounds of P(label in the set), (L,): finished lists that hold it, open ones that do already."""
        held = [*self.sets.items(), *self.open.items()]
        return _total([mass * self._holds(said) for said, mass in held], self.labels)

    @property
    def high(self) -> np.ndarray:
        """Returns upper bounds of P(label in the set), (L,): the lower ones and all open mass that may still say it."""
        may = [mass * ~self._holds(said) for said, mass in self.open.items()]
        return np.minimum(self.low + _total(may, self.labels), 1.0)

    @property
    def middle(self) -> np.ndarray:
        """Returns the middle of the bounds, (L,): no further from the exact value than half their width."""
        return (self.low + self.high) / 2

    @property
    def size(self) -> tuple[float, float]:
        """Returns a lower and an upper bound of the expected number of labels."""
        return float(self.low.sum()), float(self.high.sum())

    @property
    def unresolved(self) -> float:
        """Returns the mass of the lists that are still open."""
        return float(sum(self.open.values()))

    def set_bounds(self, labels: Collection[int]) -> tuple[float, float]:
        """Returns a lower and an upper bound of P(the set is exactly these labels)."""
        wanted = frozenset(labels)
        low = self.sets.get(wanted, 0.0)
        return low, min(1.0, low + sum(mass for said, mass in self.open.items() if wanted.issuperset(said)))

    def _holds(self, said) -> np.ndarray:
        holds = np.zeros(self.labels, bool)
        holds[list(said)] = True
        return holds


def _total(rows: list[np.ndarray], labels: int) -> np.ndarray:
    return np.sum(rows, axis=0) if rows else np.zeros(labels)


class Expansion:
    """An expansion under way: `wave()` says which lists to ask for next, `take()` what the generator answered.

    A wave holds only lists that best-first search one by one would ask for too, as long as `most` allows them: with
    a list left out, some label's bounds could not come within `tolerance` of each other.
    """

    def __init__(
        self,
        labels: int,
        tolerance: float = 0.01,
        most: float = 1000,
        repeats: str = "kept",
        longest: int | None = None,
    ):
        """Starts with the empty list. `most`: lists asked for in all; `longest`: labels after which a list stops.

        Raises ValueError for settings that are not allowed.
        """
        if labels < 1 or tolerance < 0 or most < 1 or (longest is not None and longest < 1):
            raise ValueError(
                f"labels {labels}, most {most}, longest {longest} must be 1 or more, tolerance {tolerance} 0 or more"
            )
        if repeats not in REPEATS:
            raise ValueError(f"repeats {repeats!r} are not known: take one of {', '.join(REPEATS)}")
        if repeats == "kept" and tolerance == 0 and longest is None and not np.isfinite(most):
            raise ValueError("lists with repeated labels never end: give a tolerance above 0, most, or longest")
        self.labels, self.tolerance, self.most, self.repeats = labels, tolerance, most, repeats
        self.longest = np.inf if longest is None else longest
        self.open: dict[Prefix, float] = {(): 1.0}
        self.sets: dict[frozenset[int], float] = {}
        self.refused: set[Prefix] = set()  # open lists that the generator has no answer for
        self.asked = self.waves = 0

    def wave(self) -> list[Prefix]:
        """Returns the lists to ask for next, heaviest first; none where the tolerance or `most` is reached."""
        waiting = sorted((p for p in self.open if p not in self.refused), key=lambda p: (self.open[p], p))
        left = self.most - self.asked
        if not waiting or left < 1:
            return []
        masses = np.array([self.open[prefix] for prefix in waiting])  # (waiting,)
        lacks = np.ones((len(waiting), self.labels), bool)  # which labels a list has not said
        for row, prefix in enumerate(waiting):
            lacks[row, list(prefix)] = False
        # Lightest first: a list is needed if it and all lighter ones leave some label's bounds too wide.
        needed = (lacks & (np.cumsum(masses[:, None] * lacks, axis=0) > self.tolerance)).any(axis=1)
        chosen = [prefix for prefix, wanted in zip(waiting, needed, strict=True) if wanted][::-1]
        # A wave takes at most half of what is left, so that heavy continuations still find room.
        return chosen[: int(min(left, max(SMALLEST_WAVE, left // 2)))]

    def take(self, prefixes: Sequence[Prefix], answers: Sequence) -> None:
        """Takes the answers to a wave: (p_next (L + 1,), none last; p_stop) each, or None where there is no answer.

        p_next is the distribution over what comes next if the list does not stop, p_stop the probability that it stops;
        it is not read at the empty list. A list without an answer stays open, and is not asked for again. Raises
        ValueError where an answer is no distribution, or answers and lists differ in number.
        """
        if len(prefixes) != len(answers):
            raise ValueError(f"asked for {len(prefixes)} lists and got {len(answers)} answers: give one a list")
        self.waves += 1
        for prefix, answer in zip(prefixes, answers, strict=True):
            if answer is None:
                self.refused.add(prefix)
            else:
                self.asked += 1
                self._grow(prefix, *self._check(prefix, *answer))

    def result(self) -> Marginals:
        """Returns what is known so far."""
        return Marginals(self.labels, dict(self.sets), dict(self.open), self.asked, self.waves)

    def _grow(self, prefix: Prefix, following: np.ndarray, stop: float) -> None:
        mass = self.open.pop(prefix)
        if prefix and self.repeats == "excluded":
            following = following.copy()
            following[[*prefix, -1]] = 0.0
            rest = following.sum()
            following, stop = (following / rest, stop) if rest > 0 else (following, 1.0)
        goes_on = mass if not prefix else mass * (1 - stop)
        self._finish(prefix, mass - goes_on + goes_on * following[-1])
        for label in np.flatnonzero(following[:-1]):
            longer = (*prefix, int(label))
            share = float(goes_on * following[label])
            if len(longer) >= self.longest or len(set(longer)) == self.labels:  # nothing can be added
                self._finish(longer, share)
            elif share > 0:
                self.open[longer] = share

    def _finish(self, said: Prefix, mass: float) -> None:
        if mass > 0:
            self.sets[frozenset(said)] = self.sets.get(frozenset(said), 0.0) + float(mass)

    def _check(self, prefix: Prefix, following, stop) -> tuple[np.ndarray, float]:
        following, stop = np.asarray(following, float), float(stop) if prefix else 0.0
        if following.shape != (self.labels + 1,):
            raise ValueError(f"p_next after {prefix} has shape {following.shape}: {self.labels} labels and none needed")
        if not (following >= 0).all() or not abs(following.sum() - 1) < 1e-6:
            raise ValueError(f"p_next after {prefix} is no distribution: {following.round(4).tolist()}")
        if not 0 <= stop <= 1:
            raise ValueError(f"p_stop after {prefix} must be in [0, 1]; got {stop}")
        return following / following.sum(), stop


def expand(
    ask: Callable[[list[Prefix]], Sequence],
    labels: int,
    tolerance: float = 0.01,
    most: float = 1000,
    repeats: str = "kept",
    longest: int | None = None,
) -> Marginals:
    """Returns the marginals of a generator's sets, each label's bounds within `tolerance` of each other.

    `ask(prefixes)` answers a wave of lists, tuples of label numbers, as in `Expansion.take`; it is called until the
    tolerance is reached or `most` lists were asked for, in which case the bounds are wider, and still certain.
    Raises ValueError as `Expansion` does.
    """
    expansion = Expansion(labels, tolerance, most, repeats, longest)
    while wave := expansion.wave():
        expansion.take(wave, ask(wave))
    return expansion.result()
