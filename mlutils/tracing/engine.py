"""The engine: token trees behind a cached prefix.

Whoever asks gives whole token sequences. What they share is computed once: a beginning common to all of them is kept
as the prefix, the rest of each document and its questions is merged into a tree, and passes of the network take new
tokens of as many trees as fit. Greedy answers grow the same trees, all documents at once: a draft is proposed in one
chunk, and its tokens are accepted as far as each is the most probable one, which gives the greedy answer in fewer
passes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mlutils.tracing import memory, vocabulary
from mlutils.tracing.head import read_out
from mlutils.tracing.models import Model
from mlutils.tracing.passes import Held, Pass, Prefix, Store, Tree, hold

WORTH_CACHING = 32  # tokens: a shorter common beginning is cheaper to repeat than to cache
ROWS = {"plain": 640, "packed": 256}  # new tokens a pass on cores, by products: more gain nothing
ROW_GPU = 2048
DRAFTED = 2  # times its limit of tokens that an answer has room for: drafts that are refused stay in its tree
SURE = 0.3  # a draft is proposed as far as so large a share of the answers before went on like it
PACKED = "packed"  # the name of the attention of a pass; without a mask function under it, no masks are made


@dataclass
class Written:
    """A greedy answer: T tokens, and what the model held before each of them.

    Where an end-of-text token ended the answer, the token is not kept, but what the model held before it is (T + 1).
    """

    tokens: list[int]
    logits: np.ndarray  # (T, K) of the selected tokens
    normaliser: np.ndarray  # (T,) log-sum-exp over the vocabulary
    states: torch.Tensor  # (T, H) last layer, after the final norm
    complete: bool  # False where the token limit cut it


class BadLogits(ArithmeticError):
    """Raised where a model gives numbers that are not finite; says which, its logits unless said otherwise."""

    def __init__(self, what: str = "the model gives logits"):
        super().__init__(f"{what} that are not finite (NaN or infinite)")


def shared_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """Returns how many first tokens all sequences have in common."""
    first, last = min(sequences), max(sequences)  # the two that differ earliest
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


class Draft:
    """A memory of answers that proposes how an answer goes on: along the most frequent path."""

    def __init__(self, answers: Sequence[Sequence[int]] = ()):
        self.next: dict[tuple[int, ...], Counter] = {}
        for answer in answers:
            self.learn(answer)

    def learn(self, answer: Sequence[int]) -> None:
        """Adds an answer to the memory."""
        for i, token in enumerate(answer):
            self.next.setdefault(tuple(answer[:i]), Counter())[token] += 1

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        """Returns at most `limit` tokens that may follow, as far as enough answers went on like that."""
        path, share = tuple(tokens), 1.0
        while len(path) - len(tokens) < limit and path in self.next:
            token, count = self.next[path].most_common(1)[0]
            share *= count / self.next[path].total()
            if share < SURE:
                break
            path += (token,)
        return list(path[len(tokens) :])


class Answer:
    """A greedy answer while it is written."""

    def __init__(self, tree: Tree, head: int, limit: int):
        self.tree, self.head = tree, head  # the node that predicts the next token
        self.limit, self.begins = limit, len(tree.tokens)
        self.spare = hold(self.begins + DRAFTED * limit) - self.begins - limit  # nodes for tokens that are refused
        self.said: list[int] = []
        self.held: list[tuple] = []  # node, selected logits and normaliser before each token said
        self.ended = self.complete = False

    def propose(self, draft: Draft) -> list[int]:
        """Returns the nodes whose predictions are wanted next: the head, and the tokens that a draft puts behind it."""
        refused = len(self.tree.tokens) - self.begins - len(self.said)
        most = min(self.limit - len(self.said), self.spare - refused)
        return [self.head, *self.tree.add(draft.propose(self.said, most), self.head)]

    def take(self, seen: dict[int, tuple], ends: set[int], finished: Callable) -> None:
        """Goes on as far as predictions are there: by node, selected logits, normaliser, most probable token."""
        while not self.ended and self.head in seen:
            logits, normaliser, token = seen[self.head]
            self.held.append((self.head, logits, normaliser))
            if token in ends or not np.isfinite(normaliser):
                self.ended = self.complete = True
                break
            self.said.append(token)
            self.complete = finished(self.said)
            self.ended = self.complete or len(self.said) == self.limit
            if not self.ended:
                (self.head,) = self.tree.add([token], self.head)

    def write(self) -> "Written | BadLogits":
        """Returns the answer with what the model held before its tokens."""
        nodes, logits, normaliser = zip(*self.held, strict=True)
        if not np.isfinite(normaliser).all():
            return BadLogits()
        states = self.tree.state(nodes).float().cpu()
        return Written(self.said, np.array(logits), np.array(normaliser), states, self.complete)


def find_configs(network: nn.Module) -> list:
    """Returns the configs that a network's modules hold, each once."""
    return list({id(m.config): m.config for m in network.modules() if hasattr(m, "config")}.values())


@contextmanager
def attending(name: str, configs: Iterable, attend: Callable) -> Iterator[None]:
    """Makes networks with these configs attend by a function, called `name`, while it is open.

    Other networks may hold the same configs: each gets back what it had.
    """
    before = [(config, config._attn_implementation) for config in configs]
    ALL_ATTENTION_FUNCTIONS[name] = attend
    try:
        for config, _ in before:
            config._attn_implementation = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        del ALL_ATTENTION_FUNCTIONS[name]


@dataclass
class PackedEngine:
    """Asks a model with plain causal attention; counts tokens and passes."""

    model: Model
    row: int = 0  # new tokens a pass; 0: as suits the device
    most: int = 0  # tokens of documents that are held together, beside the prefix; 0: as memory allows
    tokens: int = 0
    passes: int = 0
    prefix: Prefix = field(default_factory=Prefix)
    _held: Held = field(default_factory=Held)  # the last documents: who goes on with them pays for what is new only

    def __post_init__(self):
        self.row = self.row or (ROWS[self.model.products] if self.model.device.type == "cpu" else ROW_GPU)
        self._budget = memory.plan(self.model, self.row)
        if not self.most:
            self.most = self._budget.tokens
            if self.most < memory.MOST:
                print(f"{self.model.name}: memory for {self.most:,} tokens at once, {memory.MOST:,} would be faster")
        self._decoder = self.model.network.get_decoder()
        self._configs = find_configs(self._decoder)

    # -- passes ----------------------------------------------------------------------------------------------------
    def _run(self, trees: Sequence[Tree], store: Store) -> None:
        """Computes all new nodes of some trees, in passes of `row` tokens, and keeps their states."""
        while any(tree.done < len(tree.tokens) for tree in trees):
            room, new = self.row, []
            for tree in trees:
                new.append(range(tree.done, min(len(tree.tokens), tree.done + room)))
                room -= len(new[-1])
            states = self._forward(self._pass(trees, new, store))
            for tree, nodes, found in zip(trees, new, states.split([len(nodes) for nodes in new]), strict=True):
                if nodes:
                    tree.states.append(found)
                    tree.done = nodes.stop

    def _pass(self, trees: Sequence[Tree], new: Sequence[range], store: Store) -> Pass:
        return Pass(trees, new, store, self.prefix, self.model.device)

    @torch.inference_mode()
    def _forward(self, step: Pass) -> torch.Tensor:
        """Runs one pass; returns the last hidden states (tokens, H)."""
        with attending(PACKED, self._configs, step.attend):
            out = self._decoder(
                input_ids=torch.tensor([step.tokens], device=self.model.device),
                position_ids=step.positions[None],
                use_cache=False,
            )
        self.tokens += len(step.tokens)
        self.passes += 1
        return out.last_hidden_state[0]

    def _settle(self, sequences: Sequence[Sequence[int]]) -> None:
        """Keeps the part of the prefix that all sequences begin with, and extends it where that pays."""
        common = min(shared_beginning(sequences), min(map(len, sequences)) - 1)
        kept = min(common, shared_beginning([self.prefix.tokens, sequences[0]]))
        if kept < len(self.prefix.tokens):
            self._held = Held()  # they stand behind another beginning
            self.prefix.cut(kept)
        if common - kept >= WORTH_CACHING and not self._held.trees:
            tree, store = Tree(), Store()
            tree.add(sequences[0][kept:common])
            self._run([tree], store)
            self.prefix.extend(tree.tokens, store)

    @torch.inference_mode()
    def _project(self, states: torch.Tensor, select: torch.Tensor):
        """Returns for hidden states (N, H): selected logits (N, K), log-sum-exp (N,), most probable token (N,)."""
        chosen, normalisers, likely = [], [], []
        for part in states.split(max(1, memory.READ // self.model.words)):
            logits = read_out(self.model.network, part[None])[0].float()
            chosen.append(logits[:, select.to(logits.device)].double().cpu().numpy())
            normalisers.append(logits.double().logsumexp(-1).cpu().numpy())
            likely += logits.argmax(-1).tolist()
        return np.concatenate(chosen), np.concatenate(normalisers), likely

    # -- questions -------------------------------------------------------------------------------------------------
    def read(self, groups: Sequence[Sequence[Sequence[int]]], select: Sequence[int]) -> list:
        """Returns what the model holds after each sequence of each group (the questions about one document).

        A group gives logits (N, K) of the tokens in `select` and normalisers (N,), or the BadLogits it raised.
        """
        self._settle([sequence for group in groups for sequence in group])
        held, chosen = len(self.prefix.tokens), torch.tensor(list(select))
        behind = [[sequence[held:] for sequence in group] for group in groups]
        answers: list = [None] * len(groups)
        known = self._recognise(behind)
        trees = [known.get(number) or Tree(group[0][: shared_beginning(group)]) for number, group in enumerate(behind)]
        ends = [[tree.add(sequence)[-1] for sequence in group] for tree, group in zip(trees, behind, strict=True)]
        new = [number for number in range(len(groups)) if number not in known]
        rows = [[new[place] for place in row] for row in self._rows([trees[number] for number in new])]
        for row in [list(known), *rows] if known else rows:
            if row[0] not in known:
                self._held = Held([trees[number] for number in row])
            self._run(self._held.trees, self._held.store)
            logits, normaliser, _ = self._project(torch.cat([trees[n].state(ends[n]) for n in row]), chosen)
            cuts = np.cumsum([len(ends[number]) for number in row])[:-1]
            for number, *found in zip(row, np.split(logits, cuts), np.split(normaliser, cuts), strict=True):
                answers[number] = tuple(found) if np.isfinite(found[1]).all() else BadLogits()
        return answers

    def _recognise(self, groups: Sequence[Sequence[Sequence[int]]]) -> dict[int, Tree]:
        """Returns by group the tree that is held of its document: what it begins with is not computed again."""
        free, known = list(self._held.trees), {}
        for number, group in enumerate(groups):
            begins = [tree for tree in free if group[0][: len(tree.begins)] == tree.begins]
            if begins:
                known[number] = max(begins, key=lambda tree: len(tree.begins))
                free.remove(known[number])
        longest = max((len(tree.tokens) for tree in self._held.trees), default=0)
        new = max((sum(map(len, groups[number])) for number in known), default=0)
        if hold(longest + new) * len(self._held.trees) > self.most:
            self._held = Held()  # no room for more
            return {}
        return known

    def _rows(self, trees: Sequence[Tree], new: int = 0) -> list[list[int]]:
        """Returns the numbers of the trees that are held together, of like size, with `new` tokens to come each.

        A tree that is larger than what may be held is held alone. Raises MemoryError where it cannot be.
        """
        rows: list[list[int]] = []
        for number in sorted(range(len(trees)), key=lambda number: len(trees[number].tokens)):
            size = hold(len(trees[number].tokens) + new)  # the largest so far: a row is as wide as it
            self._budget.check(size)
            if not rows or (len(rows[-1]) + 1) * size > self.most:
                rows.append([])
            rows[-1].append(number)
        return rows

    # -- answers ---------------------------------------------------------------------------------------------------
    def write(
        self,
        sequences: Sequence[Sequence[int]],
        select: Sequence[int],
        finished: Callable[[list[int]], bool],
        limit: int,
        draft: Draft,
    ) -> list:
        """Returns the greedy answer to each prompt as `Written`, or the BadLogits it raised.

        An answer ends where `finished(tokens)` says so, at an end-of-text token (not kept), or after `limit` tokens.
        `draft` proposes and learns; it changes the number of passes, never the answers.
        """
        self._settle(sequences)
        held = len(self.prefix.tokens)
        trees = [Tree(list(sequence[held:])) for sequence in sequences]
        heads = [tree.add(sequence[held:])[-1] for tree, sequence in zip(trees, sequences, strict=True)]
        answers = [Answer(tree, head, limit) for tree, head in zip(trees, heads, strict=True)]
        written: list = [None] * len(answers)
        for numbers in self._rows(trees, DRAFTED * limit):
            self._held = Held([trees[number] for number in numbers])
            self._write_together([answers[number] for number in numbers], list(select), finished, draft)
            for number in numbers:
                written[number] = answers[number].write()
        return written

    def _write_together(self, answers: Sequence[Answer], select, finished, draft) -> None:
        chosen, ends = torch.tensor(select), eos_tokens(self.model)
        while active := [answer for answer in answers if not answer.ended]:
            wanted = [answer.propose(draft) for answer in active]
            self._run(self._held.trees, self._held.store)
            states = torch.cat([answer.tree.state(nodes) for answer, nodes in zip(active, wanted, strict=True)])
            held = zip(*self._project(states, chosen), strict=True)
            for answer, nodes in zip(active, wanted, strict=True):
                answer.take(dict(zip(nodes, islice(held, len(nodes)), strict=True)), ends, finished)
                if answer.ended:
                    draft.learn(answer.said)


def eos_tokens(model: Model) -> set[int]:
    """Returns the tokens that end a text: those that the network's config names, and `vocabulary.end_tokens`."""
    known = model.network.generation_config or model.network.config  # a network that cannot generate has none
    eos = known.eos_token_id
    return set(eos if isinstance(eos, list) else [eos]) - {None} | vocabulary.end_tokens(model.tokenizer)
