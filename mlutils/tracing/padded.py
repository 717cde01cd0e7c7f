"""The engine for models that cannot be packed: padded batches of whole prompts, slower and always right.

Some networks take padding for text (RWKV), or count positions from it (RoBERTa); in others a longer prompt changes the
positions of its neighbours; Moshi's cache forgets what is behind a window, its attention does not. So an engine first
tries padding on a few tokens, and again on as many as a window has before prompts are longer; where logits are not
those of each prompt alone, prompts are asked alone, a pass a token.
"""

import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mlutils.tracing.engine import BadLogits, Draft, Written, eos_tokens
from mlutils.tracing.models import Model, close, moves_positions

TRIAL = [[5, 6, 7, 8, 9, 10], [11, 7, 5]]  # token ids of two prompts of different length
_trials: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # network -> whether its batches can be padded
_behind: weakref.WeakSet = weakref.WeakSet()  # networks that were tried behind their window


@dataclass
class PaddedEngine:
    """Asks any causal language model, with the interface of `PackedEngine`; nothing is shared between prompts."""

    model: Model
    batch: int = 8
    tokens: int = 0
    passes: int = 0

    def __post_init__(self):
        network = self.model.network
        if network not in _trials:
            self._keep(not moves_positions(network.config) and self._is_right(TRIAL))
        self.pads = _trials[network]

    def _keep(self, right: bool) -> None:
        """Keeps the outcome of a trial, and says it where padding is wrong."""
        _trials[self.model.network] = self.pads = right
        if not right:
            print(f"{self.model.name}: padding changes its answers, so prompts are asked one by one")

    def _try_window(self, sequences: Sequence[Sequence[int]], limit: int) -> None:
        """Tries padding behind the window of the network's config before an answer gets there, once."""
        network, longest = self.model.network, max(sequences, key=len, default=())
        window = getattr(network.config.get_text_config(), "sliding_window", None)
        if not (self.pads and window and longest) or len(longest) + limit <= window or network in _behind:
            return
        _behind.add(network)
        again = list(longest) * (window // len(longest) + 2)
        self._keep(self._is_right([again[: window + 2], again[: max(1, window // 2)]]))

    def _is_right(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Returns whether padded prompts have the logits that they have alone."""
        few, work = list(range(12)), (self.tokens, self.passes)
        answers, ends = self._write_batch(prompts, few, lambda tokens: False, 3), self._last(prompts, pads=True)
        right = self._agree(prompts, few, answers, ends)
        self.tokens, self.passes = work  # that of the run, which a trial is not
        return right

    def _agree(self, prompts, few, answers, ends) -> bool:
        for prompt, written, read in zip(prompts, answers, ends, strict=True):
            if isinstance(written, BadLogits):
                continue  # a broken network is named where it is asked
            for at, logits in enumerate(torch.from_numpy(written.logits)):
                alone = self._alone([*prompt, *written.tokens[:at]])[0][few].double()
                both = torch.stack([logits, read[few].double()]) if at == 0 else logits[None]
                if not (both - alone).abs().max() <= close(self.model.dtype) * alone.std():
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
        """Returns the greedy answer to each prompt as `Written`, or its BadLogits; `draft` is not used."""
        answers = []
        self._try_window(sequences, limit)
        for at in range(0, len(sequences), self.batch):
            ask = self._write_batch if self.pads else self._write_alone
            answers += ask(sequences[at : at + self.batch], list(select), finished, limit)
        return answers

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
            logits = torch.stack([each for each, _ in held]).double()
            states = torch.stack([state for _, state in held])
            written = Written(said, logits[:, select].numpy(), logits.logsumexp(-1).numpy(), states, complete)
            answers.append(written if torch.isfinite(logits).all() else BadLogits())
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
    def _last(self, sequences, pads: bool | None = None) -> list[torch.Tensor]:
        if not (self.pads if pads is None else pads):
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
