"""The engine for models that cannot be packed: padded batches of whole prompts, slower and always right."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mlutils.tracing.engine import BadLogits, Draft, Written, eos_tokens
from mlutils.tracing.models import Model


@dataclass
class PaddedEngine:
    """Asks any causal language model, with the interface of `PackedEngine`; nothing is shared between prompts."""

    model: Model
    batch: int = 8
    tokens: int = 0
    passes: int = 0

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
        for at in range(0, len(sequences), self.batch):
            answers += self._write_batch(sequences[at : at + self.batch], list(select), finished, limit)
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
