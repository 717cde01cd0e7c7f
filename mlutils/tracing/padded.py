"""The engine for models that cannot be packed: slower and always right.

What all prompts begin with is computed once and kept in a cache; each document goes on from a copy of it, alone, and
its questions go on from the document together, padded behind their ends, where no causal model looks. Networks without
such a cache, or whose numbers change behind it, are asked in padded batches of whole prompts. But some take padding for
text (RWKV), or count positions from it (RoBERTa); in others a longer prompt changes the positions of its neighbours:
their prompts are asked alone, a pass a token. Which of these holds is tried on a few tokens, against plain passes; and
again behind a window before prompts get there, as Moshi's cache forgets what its attention does not.
"""

import copy
import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from mlutils.tracing.engine import WORTH_CACHING, BadLogits, Draft, Written, eos_tokens, shared_beginning
from mlutils.tracing.models import Model, close, has_plain_layers, moves_positions

TRIAL = [[5, 6, 7, 8, 9, 10], [11, 7, 5]]  # token ids of two prompts of different length
WAYS = ("shared", "padded", "alone")  # of asking, the fastest first
SLOW = {
    "padded": "its numbers change behind a kept beginning, so whole prompts are asked in padded batches",
    "alone": "padding changes its answers, so prompts are asked one by one",
}
_trials: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # network -> the fastest of WAYS that is right
_behind: weakref.WeakSet = weakref.WeakSet()  # networks that were tried behind their window


@dataclass
class PaddedEngine:
    """Asks any causal language model, with the interface of `PackedEngine`."""

    model: Model
    batch: int = 8
    tokens: int = 0
    passes: int = 0

    def __post_init__(self):
        network = self.model.network
        self.prefix, self._cache = [], None  # what the last prompts began with, and what the network keeps of it
        if network not in _trials:
            self._try(WAYS[-1:] if moves_positions(network.config) else WAYS, TRIAL)
        self.way = _trials[network]

    def _try(self, ways: Sequence[str], prompts: Sequence[Sequence[int]]) -> None:
        """Takes the first way of asking that gives prompts the logits that they have alone, and says what is slow."""
        work = self.tokens, self.passes
        self.way = next((way for way in ways if way == "alone" or self._is_right(way, prompts)), "alone")
        if self.way != _trials.get(self.model.network, WAYS[0]):
            print(f"{self.model.name}: {SLOW[self.way]}")
        _trials[self.model.network] = self.way
        self.prefix, self._cache = [], None
        self.tokens, self.passes = work  # that of the run, which a trial is not

    def _try_window(self, sequences: Sequence[Sequence[int]], limit: int) -> None:
        """Tries again behind the window of the network's config before a prompt or answer gets there, once."""
        network, longest = self.model.network, max(sequences, key=len, default=())
        window = getattr(network.config.get_text_config(), "sliding_window", None)
        if not (window and longest) or len(longest) + limit <= window or self.way == "alone" or network in _behind:
            return
        _behind.add(network)
        again = list(longest) * (window // len(longest) + 2)
        self._try(WAYS[WAYS.index(self.way) :], [again[: window + 2], again[: max(1, window // 2)]])

    def _is_right(self, way: str, prompts: Sequence[Sequence[int]]) -> bool:
        self.way, self.prefix, few = way, [], list(range(12))
        if way == "shared" and "past_key_values" not in inspect.signature(self.model.network.forward).parameters:
            return False
        try:
            answers = self._write(prompts, few, lambda tokens: False, 3, Draft())
            ends = self._read([[prompt, [*prompt, 6]] for prompt in prompts], few)
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            if way == "shared":
                return False  # the network keeps something else than keys and values
            raise
        for prompt, written, read in zip(prompts, answers, ends, strict=True):
            if isinstance(written, BadLogits) or isinstance(read, BadLogits):
                continue  # a broken network is named where it is asked
            asked = [(*written.tokens[:at],) for at in range(len(written.tokens))]
            found = [*zip(asked, written.logits, strict=True), *zip([(), (6,)], read[0], strict=True)]
            for tokens, logits in found:
                alone = self._alone([*prompt, *tokens])[0][few].double()
                if not (torch.from_numpy(logits) - alone).abs().max() <= close(self.model.dtype) * alone.std():
                    return False
        return True

    @torch.inference_mode()
    def _alone(self, sequence: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits (V,) and the last state (H,) behind a prompt, from a plain pass over it."""
        self.tokens += len(sequence)
        self.passes += 1
        ids = torch.tensor([list(sequence)], device=self.model.device)
        out = self.model.network(input_ids=ids, output_hidden_states=True)
        return out.logits[0, -1].float().cpu(), out.hidden_states[-1][0, -1].float().cpu()

    def read(self, groups: Sequence[Sequence[Sequence[int]]], select: Sequence[int]) -> list:
        """Returns logits (N, K) and normalisers (N,) after the N sequences of each group, or its BadLogits."""
        self._try_window([sequence for group in groups for sequence in group], 0)
        return self._read(groups, select)

    def _read(self, groups, select) -> list:
        if self.way == "shared":
            self._settle([sequence for group in groups for sequence in group])
            return [self._read_group(group, list(select)) for group in groups]
        flat = [sequence for group in groups for sequence in group]
        rows = []
        for at in range(0, len(flat), self.batch):
            rows += self._last(flat[at : at + self.batch])
        answers, at = [], 0
        for group in groups:
            logits = torch.stack(rows[at : at + len(group)]).double()
            at += len(group)
            chosen = logits[:, list(select)].numpy(), logits.logsumexp(-1).numpy()
            answers.append(chosen if torch.isfinite(logits).all() else BadLogits())
        return answers

    def write(
        self,
        sequences: Sequence[Sequence[int]],
        select: Sequence[int],
        finished: Callable[[list[int]], bool],
        limit: int,
        draft: Draft | None = None,
    ) -> list:
        """Returns the greedy answer to each prompt as `Written`, or its BadLogits; `draft` saves passes."""
        self._try_window(sequences, limit)
        return self._write(sequences, select, finished, limit, draft or Draft())

    def _write(self, sequences, select, finished, limit, draft) -> list:
        if self.way == "shared":
            self._settle(sequences)
            return [self._write_one(each, list(select), finished, limit, draft) for each in sequences]
        answers = []
        for at in range(0, len(sequences), self.batch):
            ask = self._write_batch if self.way == "padded" else self._write_alone
            answers += ask(sequences[at : at + self.batch], list(select), finished, limit)
        return answers

    # -- behind a shared beginning ---------------------------------------------------------------------------------
    def _settle(self, sequences: Sequence[Sequence[int]]) -> None:
        """Keeps in the cache what all sequences begin with; where that is much less than before, computes it anew."""
        common = min(shared_beginning(sequences), min(map(len, sequences)) - 1)
        held = shared_beginning([self.prefix, sequences[0]]) if self.prefix else 0
        if held == len(self.prefix) <= common and self.prefix:
            return
        kept = min(held, common)
        # What some prompts have in common by chance is not worth another pass over the beginning of all.
        self.prefix = list(sequences[0][: kept if kept >= WORTH_CACHING else common])
        config = self.model.network.config
        # A cache with windows of its own could not be cut, and may forget what attention sees.
        self._cache = DynamicCache() if has_plain_layers(config) else DynamicCache(config=config)
        if self.prefix:
            self._go_on([self.prefix], self._cache, 0)

    @torch.inference_mode()
    def _go_on(self, rows: Sequence[Sequence[int]], cache: Cache, seen: int):
        """Runs rows of tokens behind `seen` ones that a cache holds, padded at their ends."""
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.model.device)
        network, arguments = self.model.network, {}
        if "position_ids" in inspect.signature(network.forward).parameters:
            arguments["position_ids"] = torch.arange(seen, seen + longest, device=ids.device).expand_as(ids)
        self.tokens += sum(map(len, rows))
        self.passes += 1
        return network(
            input_ids=ids,
            attention_mask=torch.ones(len(rows), seen + longest, dtype=torch.long, device=ids.device),
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
            **arguments,
        )

    def _read_group(self, group: Sequence[Sequence[int]], select: list[int]) -> tuple | BadLogits:
        held = len(self.prefix)
        common = min(shared_beginning(group), min(map(len, group)) - 1)
        cache, rows = copy.deepcopy(self._cache), []
        if common > held:
            self._go_on([group[0][held:common]], cache, held)
        common = max(common, held)
        for at in range(0, len(group), self.batch):
            tails = [sequence[common:] for sequence in group[at : at + self.batch]]
            behind = copy.deepcopy(cache)
            behind.batch_repeat_interleave(len(tails))
            logits = self._go_on(tails, behind, common).logits
            rows += [logits[row, len(tail) - 1].float().cpu() for row, tail in enumerate(tails)]
        logits = torch.stack(rows).double()
        found = logits[:, select].numpy(), logits.logsumexp(-1).numpy()
        return found if torch.isfinite(logits).all() else BadLogits()

    def _write_one(self, sequence, select, finished, limit, draft: Draft) -> Written | BadLogits:
        """Returns the greedy answer to a prompt; a draft's tokens are accepted as far as they are the greedy ones."""
        ends, said, held, complete = eos_tokens(self.model), [], [], False
        cache, seen, new = copy.deepcopy(self._cache), len(self.prefix), list(sequence[len(self.prefix) :])
        crops = all(type(layer) is DynamicLayer for layer in cache.layers)
        while len(said) < limit and not complete:
            proposed = draft.propose(said, limit - len(said) - 1) if crops else []
            out = self._go_on([[*new, *proposed]], cache, seen)
            first = len(new) - 1
            seen, new = seen + len(new), []
            for at, guess in enumerate([*proposed, None], start=first):
                held.append((out.logits[0, at].float().cpu(), out.hidden_states[-1][0, at].float().cpu()))
                token = int(held[-1][0].argmax())
                complete = token in ends
                if not complete:
                    said.append(token)
                    complete = finished(said)
                if complete or len(said) == limit:
                    break
                if token != guess:
                    new = [token]
                    break
                seen += 1
            if crops and cache.get_seq_length() > seen:
                cache.crop(-(cache.get_seq_length() - seen))
        draft.learn(said)
        return _as_written(held, said, complete, select)

    def _write_alone(self, sequences, select, finished, limit) -> list:
        """Returns what `_write_batch` does, from a pass over each prompt and what is written of its answer."""
        ends, answers = eos_tokens(self.model), []
        for sequence in sequences:
            said, held, complete = [], [], False
            while len(said) < limit and not complete:
                held.append(self._alone([*sequence, *said]))
                token = int(held[-1][0].argmax())
                complete = token in ends
                if not complete:
                    said.append(token)
                    complete = finished(said)
            answers.append(_as_written(held, said, complete, select))
        return answers

    def _pad(self, sequences):
        longest = max(map(len, sequences))
        ids = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, longest - len(sequence) :] = torch.tensor(sequence)
            mask[row, longest - len(sequence) :] = 1
        self.tokens += sum(map(len, sequences))
        self.passes += 1
        return ids.to(self.model.device), mask.to(self.model.device)

    @torch.inference_mode()
    def _last(self, sequences) -> list[torch.Tensor]:
        if self.way == "alone":
            return [self._alone(sequence)[0] for sequence in sequences]
        ids, mask = self._pad(sequences)
        network, arguments = self.model.network, {}
        if "position_ids" in inspect.signature(network.forward).parameters:
            arguments["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        out = network(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1, **arguments)
        return list(out.logits[:, -1].float().cpu())

    @torch.inference_mode()
    def _write_batch(self, sequences, select, finished, limit) -> list:
        ids, mask = self._pad(sequences)
        out = self.model.network.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            pad_token_id=0,
            output_logits=True,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        self.tokens += len(sequences) * (len(out.logits) - 1)
        self.passes += len(out.logits) - 1
        ends, answers = eos_tokens(self.model), []
        for row in range(len(sequences)):
            said, held, complete = [], 0, False
            for token in out.sequences[row, ids.shape[1] :].tolist():
                held += 1
                complete = token in ends
                if not complete:
                    said.append(token)
                    complete = finished(said)
                if complete:
                    break
            logits = torch.stack([step[row].float().cpu() for step in out.logits[:held]]).double()
            if not torch.isfinite(logits).all():
                answers.append(BadLogits())
                continue
            states = torch.stack([step[-1][row, -1].float().cpu() for step in out.hidden_states[:held]])
            answers.append(Written(said, logits[:, select].numpy(), logits.logsumexp(-1).numpy(), states, complete))
        return answers


def _as_written(held: Sequence[tuple[torch.Tensor, torch.Tensor]], said, complete, select) -> Written | BadLogits:
    """Returns an answer, given logits (V,) and state (H,) before each of its tokens."""
    logits = torch.stack([each for each, _ in held]).double()
    states = torch.stack([state for _, state in held])
    written = Written(said, logits[:, select].numpy(), logits.logsumexp(-1).numpy(), states, complete)
    return written if torch.isfinite(logits).all() else BadLogits()
