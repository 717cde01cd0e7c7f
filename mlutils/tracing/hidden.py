"""The view `hidden`: what the model holds after every layer where it is about to write the first label (Fig. 7, 15)."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from mlutils.tracing.engine import PackedEngine, Written
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.passes import Pass
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView


class HiddenView(ListView):
    """Greedy lists once more, of which the states of all layers at the first label are kept and nothing else."""

    name = "hidden"

    def __init__(self, model: Model, prompting: Prompting):
        super().__init__(model, replace(prompting, label_tokens="first"))  # steps are not kept: none is read further
        self.engine = LayeredEngine(model) if model.packed else LayeredPaddedEngine(model)
        self.state_shape = (model.config.num_hidden_layers + 1, model.config.hidden_size)

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], np.ndarray]:
        """Returns the failures, and the states that predict the first label's first token after each layer of H
        dimensions, float32 (rows, layers + 1, H): the embeddings first, the last one after the final norm, which is
        the state of the view list; NaN where an answer has no label step.
        """
        # Not float16: some models hold numbers beyond 65,504 in the layers between.
        tables, states = super().ask(rows)
        return {"failures": tables["failures"]}, states


@dataclass
class LayeredEngine(PackedEngine):
    """The packed engine, whose states are (tokens, layers + 1, H) in place of (tokens, H)."""

    most: int = 4096  # as states are large

    def _forward(self, step: Pass) -> torch.Tensor:
        """Runs a pass; returns what went into each layer, and the last state."""
        with _inputs_kept(self._decoder.layers) as inputs:
            last = super()._forward(step)
        # A model that is spread over several GPUs has its layers in several places.
        return torch.stack([*(state[0].to(last.device) for state in inputs), last], dim=1)

    def _project(self, states: torch.Tensor, select: torch.Tensor):
        return super()._project(states[:, -1], select)


@dataclass
class LayeredPaddedEngine(PaddedEngine):
    """The padded engine, with states as those of `LayeredEngine`: from a plain pass over each prompt and answer."""

    def write(self, sequences, select, finished, limit, draft=None) -> list:
        """Returns the greedy answer to each prompt as `Written` with states (T, layers + 1, H), or its BadLogits."""
        written = super().write(sequences, select, finished, limit, draft)
        return [
            replace(answer, states=self._layers(sequence, answer)) if isinstance(answer, Written) else answer
            for sequence, answer in zip(sequences, written, strict=True)
        ]

    @torch.inference_mode()
    def _layers(self, sequence: list[int], answer: Written) -> torch.Tensor:
        held = len(answer.normaliser)
        ids, mask = self._pad([[*sequence, *answer.tokens[: held - 1]]])
        out = self.model.network.get_decoder()(
            input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True
        )
        return torch.stack([state[0, -held:].float().cpu() for state in out.hidden_states], dim=1)


@contextmanager
def _inputs_kept(layers):
    """Yields a list that the passes inside fill with what goes into each layer, (batch, tokens, H)."""
    inputs: list[torch.Tensor] = []

    def keep(_, positional, named):
        inputs.append(positional[0] if positional else named["hidden_states"])

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
