"""The view `attention`: where a model looks when it begins a later label (Table 6, claim C8).

No attention map is kept. The pass over prompt and answer runs as always; beside it, the scores of the few rows that
predict a later label's first token are computed once more from the layer's own queries and keys (rotated already), and
the mass on a segment is exp(logsumexp of its scores - logsumexp of all).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mlutils.tracing.engine import BadLogits, PackedEngine, attending, find_configs
from mlutils.tracing.models import Model
from mlutils.tracing.padded import PaddedEngine
from mlutils.tracing.passes import CHANGES, Pass, Store, Tree
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView

SEGMENTS = ("input", "answer", "first", "shifted")
RECORDED = "sdpa_recorded"  # the name of the attention that also records
BAD = "the model gives attention shares"

# Without a mask function under its name, transformers would drop the causal mask.
AttentionMaskInterface.register(RECORDED, sdpa_mask)


@dataclass(frozen=True)
class Reading:
    """A prompt with its answer up to the token before the last label, and the tokens that begin its labels."""

    prompt: list[int]
    answer: list[int]
    firsts: list[int]  # indices in the answer, ascending, one a label step; two at least

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.answer[: self.firsts[-1]]]

    @property
    def steps(self) -> range:
        return range(2, len(self.firsts) + 1)

    def query(self, step: int) -> int:
        """Returns the position that predicts the first token of a step's label."""
        return len(self.prompt) + self.firsts[step - 1] - 1

    def segments(self, step: int) -> dict[str, list[int]]:
        """Returns the positions of each of SEGMENTS at a step; input and answer are all that the query sees."""
        first = [len(self.prompt) + at for at in self.firsts[: step - 1]]
        return {
            "input": list(range(len(self.prompt))),
            "answer": list(range(len(self.prompt), self.query(step) + 1)),
            "first": first,
            "shifted": [at - 1 for at in first],  # the released code reads one token too early
        }

    def inside(self, steps: Sequence[int], keys: int) -> torch.Tensor:
        """Returns which of the first `keys` positions lie in which segment, bool (segments, steps, keys)."""
        inside = torch.zeros(len(SEGMENTS), len(steps), keys, dtype=torch.bool)
        for row, step in enumerate(steps):
            for segment, positions in enumerate(self.segments(step).values()):
                inside[segment, row, positions] = True
        return inside


class AttentionView:
    """Attention at the label steps from the second on, by segment and layer, mean over heads."""

    name = "attention"

    def __init__(self, model: Model, prompting: Prompting):
        """Raises ValueError for a model whose attention does not go through transformers' attention interface."""
        if not model.network._supports_attention_backend:
            raise _unreadable(model, "does not go through the attention interface of transformers")
        self.model, self.prompting, self.lists = model, prompting, ListView(model, prompting)
        self.engine = PackedAttention(model) if model.packed else PlainAttention(model)
        self.lists.engine = self.engine  # one cached prefix and one count for both

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of attention and failures for some documents; an answer with one label gives no row."""
        ids = self.prompting.corpus.documents["id"]
        prompts, outcomes = self.lists.write(rows)
        readings = {}
        for row, written in outcomes.items():
            if not isinstance(written, Exception):
                firsts = self.lists.find_labels(written)[1]
                if len(firsts) >= 2:
                    readings[row] = Reading(prompts[row], written.tokens, firsts)
        if readings:
            outcomes |= dict(zip(readings, self.engine.attend(list(readings.values())), strict=True))
        tables = {"attention": [], "failures": []}
        for row in rows:
            if isinstance(outcomes[row], Exception):
                tables["failures"].append({"document": ids[row], "view": self.name, "error": str(outcomes[row])})
            elif row in readings:
                tables["attention"] += _tabulate(ids[row], readings[row], outcomes[row])
        return tables, None


@dataclass
class PackedAttention(PackedEngine):
    """The packed engine that also reads attention."""

    # Those in the trees at hand, and their masses.
    _read: list[tuple[Reading, np.ndarray]] = field(default_factory=list)

    def attend(self, readings: Sequence[Reading]) -> list:
        """Returns the attention (steps, layers, SEGMENTS) of each reading, or the BadLogits it raised."""
        self._settle([reading.prompt for reading in readings])  # answers stay behind the prefix: their rows are asked
        trees = [Tree() for _ in readings]
        for tree, reading in zip(trees, readings, strict=True):
            # A chain: its nodes are the positions behind the prefix.
            tree.add(reading.tokens[len(self.prefix.tokens) :])
        layers = self.model.config.num_hidden_layers
        masses = [np.full((len(reading.steps), layers, len(SEGMENTS)), np.nan) for reading in readings]
        for numbers in self._rows(trees):
            self._read = [(readings[number], masses[number]) for number in numbers]
            self._run([trees[number] for number in numbers], Store())
        return [each if np.isfinite(each).all() else BadLogits(BAD) for each in masses]

    def _pass(self, trees, new, store) -> Pass:
        return ReadPass(self._read, trees, new, store, self.prefix, self.model.device)


class ReadPass(Pass):
    """A pass that also reads where the queries of label steps look."""

    def __init__(self, readings: Sequence[tuple[Reading, np.ndarray]], *arguments):
        super().__init__(*arguments)
        self.wanted = []  # masses, tree, queries of the steps asked in this pass, their places in it, what is inside
        begins = np.cumsum([0, *map(len, self.new)])
        for number, (reading, masses) in enumerate(readings):
            behind = {step: reading.query(step) - len(self.prefix.tokens) for step in reading.steps}
            steps = [step for step in reading.steps if behind[step] in self.new[number]]
            places = [int(begins[number]) + behind[step] - self.new[number].start for step in steps]
            if steps:
                queries = torch.tensor([reading.query(step) for step in steps])[:, None]
                inside = reading.inside(steps, len(self.prefix.tokens) + self.new[number].stop)
                self.wanted.append((masses, number, [step - 2 for step in steps], queries, places, inside))

    def attend(self, module, query, key, value, attention_mask, scaling=None, sliding_window=None, **options):
        """Returns what `Pass.attend` does, and fills in the masses of the layer."""
        out = super().attend(module, query, key, value, attention_mask, scaling, sliding_window, **options)
        layer, scale = module.layer_idx, query.shape[-1] ** -0.5 if scaling is None else scaling
        for masses, number, rows, queries, places, inside in self.wanted:
            keys = self.store.kept[layer][0][number, :, : self.new[number].stop]
            if self.prefix.tokens:
                keys = torch.cat([self.prefix.kept[layer][0][0], keys], dim=1)
            at = torch.arange(keys.shape[1])
            sees = (at <= queries) & (at > queries - (sliding_window or keys.shape[1]))
            mask = torch.zeros(sees.shape).masked_fill(~sees, -torch.inf)[None].to(keys.device)
            masses[rows, layer] = _read_masses(query[0, :, places], keys, mask, scale, inside)
        return out


class PlainAttention(PaddedEngine):
    """The engine for models that cannot be packed, which reads attention a document a pass."""

    def attend(self, readings: Sequence[Reading]) -> list:
        """Returns the attention (steps, layers, SEGMENTS) of each reading, or the BadLogits it raised."""
        outcomes = []
        for reading in readings:
            try:
                outcomes.append(self._attend_one(reading))
            except BadLogits as error:
                outcomes.append(error)
        return outcomes

    @torch.inference_mode()
    def _attend_one(self, reading: Reading) -> np.ndarray:
        ids, _ = self._pad([reading.tokens])
        inside = reading.inside(reading.steps, len(reading.tokens))
        with recording(self.model, [reading.query(step) for step in reading.steps], inside) as layers:
            self.model.network.base_model(input_ids=ids, use_cache=False)
        depth = self.model.config.num_hidden_layers
        if len(layers) != depth:
            raise _unreadable(self.model, f"was seen in {len(layers)} of {depth} layers")
        masses = np.stack(layers, axis=1)
        if not np.isfinite(masses).all():
            raise BadLogits(BAD)
        return masses


@contextmanager
def recording(model: Model, rows: Sequence[int], inside: torch.Tensor) -> Iterator[list[np.ndarray]]:
    """Records attention while it is open, into one array (rows, segments) a layer, in the order of the layers.

    rows: of the pass's queries. inside: bool (segments, rows, keys). The model's output is as without recording.
    Raises ValueError where scores are more than query times key.
    """
    layers: list[np.ndarray] = []

    def attend(module, query, key, value, attention_mask, scaling=None, **options):
        if changed := [name for name in CHANGES if options.get(name) is not None]:
            raise _unreadable(model, f"changes its scores by {', '.join(changed)}")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        layers.append(_read_masses(query[0, :, rows], key[0], _mask_rows(attention_mask, rows, key), scale, inside))
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)

    with attending(RECORDED, find_configs(model.network), attend):
        yield layers


def _mask_rows(mask: torch.Tensor | None, rows: Sequence[int], key: torch.Tensor) -> torch.Tensor:
    """Returns the additive mask of some query rows, float32 (heads or 1, rows, keys)."""
    if mask is None:  # causal, and nothing in the cache
        at = torch.arange(key.shape[2], device=key.device)
        mask = (at <= torch.tensor(rows, device=key.device)[:, None])[None]
    else:
        mask = mask[0, :, rows]
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -torch.inf)
    return mask.float()


def _read_masses(query, key, mask, scaling: float, inside: torch.Tensor) -> np.ndarray:
    """Returns the mean over heads of the mass on each segment, (rows, segments).

    query: (heads, rows, size); key: (key heads, keys, size), each shared by heads / key heads of them.
    """
    heads, rows, size = query.shape
    grouped = query.float().view(key.shape[0], heads // key.shape[0], rows, size)
    scores = torch.einsum("kgrd,ksd->kgrs", grouped, key.float()).flatten(0, 1) * scaling + mask  # (heads, rows, keys)
    total = scores.logsumexp(-1)  # (heads, rows)
    outside = ~inside.to(scores.device)
    masses = [(scores.masked_fill(each, -torch.inf).logsumexp(-1) - total).exp().mean(0) for each in outside]
    return torch.stack(masses, dim=-1).double().cpu().numpy()


def _tabulate(document: str, reading: Reading, masses: np.ndarray) -> list[dict]:
    """Returns the rows of a document: one a label step from the second on."""
    rows = []
    for step, by_layer in zip(reading.steps, masses, strict=True):
        tokens = {name: len(positions) for name, positions in reading.segments(step).items()}
        mass = dict(zip(SEGMENTS, by_layer.T.tolist(), strict=True))
        counts = {f"{name}_tokens": tokens[name] for name in ("input", "answer", "first")}
        rows.append({"document": document, "step": step, **mass, **counts})
    return rows


def _unreadable(model: Model, why: str) -> ValueError:
    return ValueError(f"the attention of {model.name} cannot be read: it {why}; leave the view attention out")
