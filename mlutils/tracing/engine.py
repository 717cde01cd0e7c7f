"""The engine: token tries behind a cached prefix.

Whoever asks gives whole token sequences. What they share is computed once: a beginning common to all of them is
kept in one cache, the rest of several documents and their questions is merged into a trie and packed into one row,
where each token sees its ancestors only. Greedy answers grow the same trie: a draft is proposed in one chunk, and
its tokens are accepted as far as each is the most probable one, which gives the greedy answer in fewer passes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache

from mlutils.tracing import vocabulary
from mlutils.tracing.head import read_out
from mlutils.tracing.models import Model

WORTH_CACHING = 32  # tokens: a shorter common beginning is cheaper to repeat than to cache


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
        """Returns at most `limit` tokens that may follow."""
        path = tuple(tokens)
        while len(path) - len(tokens) < limit and path in self.next:
            path += (self.next[path].most_common(1)[0][0],)
        return list(path[len(tokens) :])


class Trie:
    """Tokens behind the engine's prefix; each sees the prefix and its own ancestors."""

    def __init__(self, engine: "PackedEngine"):
        self.engine = engine
        self.tokens: list[int] = []
        self.parents: list[int] = []  # -1: the prefix
        self.depths: list[int] = []
        self.children: dict[tuple[int, int], int] = {}
        self.cached = 0  # nodes already in the model's cache
        self.sees = np.zeros((0, 0), bool)  # (nodes, nodes): the row's ancestors and itself
        self.states: torch.Tensor | None = None  # (nodes, H) last hidden states

    def add(self, tokens: Sequence[int], parent: int = -1) -> list[int]:
        """Adds a path and returns its nodes; what is there already is not added again."""
        path = []
        for token in tokens:
            node = self.children.get((parent, token))
            if node is None:
                node = self.children[parent, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
            path.append(node)
            parent = node
        return path

    def run(self) -> None:
        """Computes the new nodes in one pass, and keeps their last hidden states."""
        old, n = self.cached, len(self.tokens)
        if old == n:
            return
        sees = np.zeros((n, n), bool)
        sees[:old, :old] = self.sees
        for node in range(old, n):
            if self.parents[node] >= 0:
                sees[node] = sees[self.parents[node]]
            sees[node, node] = True
        states = self.engine.forward(self.tokens[old:], self.depths[old:], sees[old:])
        self.states = states if self.states is None else torch.cat([self.states, states])
        self.sees, self.cached = sees, n


@dataclass
class PackedEngine:
    """Asks a model with plain causal attention; counts tokens and passes."""

    model: Model
    row: int = 640  # new tokens a pass; much longer rows lose to quadratic attention
    tokens: int = 0
    passes: int = 0
    prefix: list[int] = field(default_factory=list)

    def __post_init__(self):
        self._cache = DynamicCache(config=self.model.network.config)
        self._base = self.model.network.get_decoder()

    # -- passes ----------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def forward(self, tokens: Sequence[int], depths: Sequence[int], sees: np.ndarray) -> torch.Tensor:
        """Runs new tokens behind the cache, (new,) with their depth behind the prefix and what they see."""
        device, length = self.model.device, len(self.prefix)
        allowed = torch.from_numpy(np.ascontiguousarray(sees)).to(device)
        # An additive mask: eager attention would add a boolean one instead of masking.
        mask = torch.zeros(len(tokens), length + sees.shape[1], dtype=self.model.dtype, device=device)
        mask[:, length:].masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
        out = self._base(
            input_ids=torch.tensor([tokens], device=device),
            attention_mask=mask[None, None],
            position_ids=torch.tensor([depths], device=device) + length,
            past_key_values=self._cache,
            use_cache=True,
        )
        self.tokens += len(tokens)
        self.passes += 1
        return out.last_hidden_state[0]

    def _clear(self) -> None:
        """Removes everything behind the prefix from the cache."""
        if extra := self._cache.get_seq_length() - len(self.prefix):
            self._cache.crop(-extra)

    def _settle(self, sequences: Sequence[Sequence[int]]) -> None:
        """Keeps the part of the prefix that all sequences begin with, and extends it where that pays."""
        common = min(shared_beginning(sequences), min(map(len, sequences)) - 1)
        kept = min(common, shared_beginning([self.prefix, sequences[0]]))
        self.prefix = self.prefix[:kept]
        self._clear()
        if common - kept >= WORTH_CACHING and sum(map(len, sequences)) - kept * len(sequences) > self.row:
            new = list(sequences[0][kept:common])
            trie = np.tril(np.ones((len(new), len(new)), bool))
            self.forward(new, range(len(new)), trie)
            self.prefix = list(sequences[0][:common])

    @torch.inference_mode()
    def _project(self, states: torch.Tensor, select: torch.Tensor):
        """Returns for hidden states (N, H): selected logits (N, K), log-sum-exp (N,), most probable token (N,)."""
        logits = read_out(self.model.network, states[None])[0].float()
        if not torch.isfinite(logits).all():
            raise BadLogits
        chosen = logits[:, select.to(logits.device)]
        return (
            chosen.double().cpu().numpy(),
            logits.double().logsumexp(-1).cpu().numpy(),
            logits.argmax(-1).tolist(),
        )

    def _rows(self, groups: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
        """Returns the numbers of the groups that go into one pass each; a group is never split."""
        rows, size = [], 0
        for i, group in enumerate(groups):
            probe = Trie(self)
            for sequence in group:
                probe.add(sequence[len(self.prefix) :])
            if not rows or size + len(probe.tokens) > self.row:
                rows.append([])
                size = 0
            rows[-1].append(i)
            size += len(probe.tokens)
        return rows

    # -- questions -------------------------------------------------------------------------------------------------
    def read(self, groups: Sequence[Sequence[Sequence[int]]], select: Sequence[int]) -> list:
        """Returns what the model holds after each sequence of each group (the questions about one document).

        A group gives logits (N, K) of the tokens in `select` and normalisers (N,), or the BadLogits it raised.
        """
        self._settle([sequence for group in groups for sequence in group])
        chosen = torch.tensor(list(select))
        return self._each_row(self._rows(groups), lambda row: self._read_row([groups[i] for i in row], chosen))

    def _read_row(self, groups, select) -> list:
        trie = Trie(self)
        ends = [[trie.add(sequence[len(self.prefix) :])[-1] for sequence in group] for group in groups]
        trie.run()
        flat = [node for group in ends for node in group]
        logits, normaliser, _ = self._project(trie.states[flat], select)
        cuts = np.cumsum([len(group) for group in ends])[:-1]
        return list(zip(np.split(logits, cuts), np.split(normaliser, cuts), strict=True))

    def _each_row(self, rows: list[list[int]], ask: Callable) -> list:
        """Asks row by row; where a row fails, its documents are asked one by one, so that only the bad one is lost.

        A masked token with weight 0 still spreads a NaN (0 x NaN = NaN) to its neighbours in the row.
        """
        answers = []
        for row in rows:
            try:
                outcome = ask(row)
            except BadLogits as error:
                outcome = [error]
            self._clear()
            alone = len(outcome) == len(row)
            answers += outcome if alone else self._each_row([[i] for i in row], ask)
        return answers

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
        chosen = torch.tensor(list(select))
        rows = self._rows([[sequence] for sequence in sequences])
        return self._each_row(
            rows, lambda row: self._write_row([sequences[i] for i in row], chosen, finished, limit, draft)
        )

    def _write_row(self, sequences, select, finished, limit, draft) -> list:
        trie, ends = Trie(self), eos_tokens(self.model)
        heads = [trie.add(sequence[len(self.prefix) :])[-1] for sequence in sequences]  # predict the next token
        said: list[list[int]] = [[] for _ in sequences]
        held: list[list[int]] = [[] for _ in sequences]  # the nodes that predicted what was said
        seen: dict[int, tuple] = {}  # node -> selected logits, normaliser, most probable token
        complete: dict[int, bool] = {}
        while active := [i for i in range(len(sequences)) if i not in complete]:
            wanted = []
            for i in active:
                wanted += [heads[i], *trie.add(draft.propose(said[i], limit - len(said[i])), heads[i])]
            trie.run()
            new = [node for node in dict.fromkeys(wanted) if node not in seen]
            seen.update(zip(new, zip(*self._project(trie.states[new], select), strict=True), strict=True))
            for i in active:
                while i not in complete and heads[i] in seen:
                    token = seen[heads[i]][2]
                    held[i].append(heads[i])
                    if token in ends:
                        complete[i] = True
                        break
                    said[i].append(token)
                    ended = finished(said[i])
                    if ended or len(said[i]) == limit:
                        complete[i] = ended
                    else:
                        (heads[i],) = trie.add([token], heads[i])
                if i in complete:
                    draft.learn(said[i])
        return [
            Written(
                said[i],
                np.array([seen[node][0] for node in held[i]]).reshape(len(held[i]), len(select)),
                np.array([seen[node][1] for node in held[i]]),
                trie.states[held[i]].float().cpu(),
                complete[i],
            )
            for i in range(len(sequences))
        ]


def eos_tokens(model: Model) -> set[int]:
    """Returns the tokens that end a text: those that the network's config names, and `vocabulary.end_tokens`."""
    known = model.network.generation_config or model.network.config  # a network that cannot generate has none
    eos = known.eos_token_id
    return set(eos if isinstance(eos, list) else [eos]) - {None} | vocabulary.end_tokens(model.tokenizer)
