"""Medusa: later decoding heads on a base model, and the view `medusa` that reads them at label steps (Fig. 16).

Head 0 is the base model's own: at hidden state t it predicts token t + 1. Head k >= 1 predicts token t + 1 + k, so
what it holds of a label whose first token is predicted at t is read k states before. Labels that begin with the same
token share its logit there: no head can be read behind a token that the base model has not written.

`06_finetune` trains heads behind a model (`method: medusa`). The hub has two layouts. Medusa-1 holds heads alone,
beside the name of their base model. Medusa-2 trained the base too and holds a whole model, with its heads under
`medusa_head`: `FasterDecoding/medusa-1.0-zephyr-7b-beta` is one. Its main branch has .bin files alone, and no
tokenizer.json; where the hub is reached, make a folder of

    hf download FasterDecoding/medusa-1.0-zephyr-7b-beta --revision refs/pr/1 --local-dir FOLDER
    hf download HuggingFaceH4/zephyr-7b-beta tokenizer.json tokenizer_config.json --local-dir FOLDER
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from transformers import PretrainedConfig

from mlutils.tracing import models
from mlutils.tracing.adapters import HEADS
from mlutils.tracing.engine import BadLogits, Written
from mlutils.tracing.head import Float32Head
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import Prompting
from mlutils.tracing.steps import ListView
from mlutils.tracing.tree import Behind

VARIANT = "medusa-head="  # and the number of the head: what rows of a trace carry
WITHIN = "medusa_head."  # the names of Medusa-2


class Block(nn.Module):
    """A residual block of a head: x + SiLU(Wx + b)."""

    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + nn.functional.silu(self.linear(states))


def build_heads(count: int, layers: int, size: int, words: int) -> nn.ModuleList:
    """Returns later heads, random: residual blocks, then a final layer; states (N, size) to logits (N, words)."""
    return nn.ModuleList(
        nn.Sequential(*(Block(size) for _ in range(layers)), nn.Linear(size, words, bias=False)) for _ in range(count)
    )


def load_heads(model: Model) -> nn.ModuleList:
    """Returns the later heads of a model loaded by the name of its Medusa: states (N, H) to logits (N, V) each, the
    one at index i being head i + 1 (Fig. 16).

    Raises OSError where their weights cannot be had, ValueError for a model without heads, heads of another layout
    (none with a final layer of its own), and heads that do not fit the model.
    """
    folder = model.heads or _folder(model.name)
    config, _ = PretrainedConfig.get_config_dict(folder)
    if "medusa_num_heads" not in config:
        raise ValueError(
            f"model {model.name!r} has no Medusa heads (no medusa_num_heads in its config.json): leave the view medusa "
            "out, or give the folder or hub id of heads as the model"
        )
    count, layers = config["medusa_num_heads"], config.get("medusa_num_layers", 1)
    output = model.network.get_output_embeddings().weight
    words, size = output.shape
    with torch.device("meta"):  # no memory for weights that are replaced
        heads = build_heads(count, layers, size, words)
    try:
        heads.load_state_dict(_read_weights(model.name, folder, count), assign=True)
    except RuntimeError as error:
        problems = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(
            f"the Medusa heads of {model.name!r} do not fit {count} heads of {layers} layers on states of {size} "
            f"numbers and {words} tokens: {problems}"
        ) from None
    heads.to(device=output.device, dtype=model.dtype).eval().requires_grad_(False)
    if model.dtype != torch.float32:
        for head in heads:
            head[-1] = Float32Head(head[-1])
    return heads


def _folder(name: str) -> Path:
    """Returns the folder that holds a model's config and safetensors, downloaded where it is a hub id."""
    source, _ = models.locate(name)
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=["config.json", "*.safetensors"]))
    except OSError as error:
        raise models.explain(name, source, error) from None


def _read_weights(name: str, folder: Path, count: int) -> dict[str, torch.Tensor]:
    """Returns the weights of the first `count` heads by their names in Medusa-1, `0.0.linear.weight`."""
    alone = folder / HEADS
    prefix = "" if alone.exists() else WITHIN
    weights = {}
    for path in [alone] if alone.exists() else sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                head = key.removeprefix(prefix)
                number = head.partition(".")[0]
                # Some files hold more heads than their config counts.
                if key.startswith(prefix) and number.isdigit() and int(number) < count:
                    weights[head] = file.get_tensor(key)
    if not weights:
        raise OSError(f"the Medusa heads of {name!r} are missing: {_say_what_to_do(folder)}")
    return weights


def _say_what_to_do(folder: Path) -> str:
    pickled = (folder / HEADS).with_suffix(".pt")
    if pickled.exists():
        return (
            f"{pickled} can run code when it is read, and is refused. Convert it there:\n"
            'python -c "import torch; from safetensors.torch import save_file; '
            f"w = torch.load('{pickled.name}', weights_only=True, map_location='cpu'); "
            f"save_file({{k: v.clone() for k, v in w.items()}}, '{HEADS}')\""
        )
    return (
        f"{folder} has neither {HEADS} nor safetensors with names that begin with {WITHIN}. Where the hub "
        "is reached, `hf download NAME --local-dir FOLDER` (with `--revision refs/pr/1` for "
        "FasterDecoding/medusa-1.0-zephyr-7b-beta, whose main branch has .bin files alone), and give FOLDER"
    )


class MedusaView(ListView):
    """Greedy lists by the base model, and what each head held at every label step; head 0 is the base."""

    name = "medusa"

    def __init__(self, model: Model, prompting: Prompting):
        super().__init__(model, prompting, f"{VARIANT}0")
        self.heads = load_heads(model)
        self.bad: dict[str, BadLogits] = {}

    def ask(self, rows: Sequence[int]) -> tuple[dict[str, list[dict]], None]:
        """Returns rows of answers, steps and failures for some documents; a later head has a row for each label step
        that it can predict from within the answer.
        """
        self.bad.clear()
        tables, _ = super().ask(rows)
        for name in ("answers", "steps"):
            tables[name] = [row for row in tables[name] if row["document"] not in self.bad]
        tables["failures"] += [
            {"document": document, "view": self.name, "error": str(error)} for document, error in self.bad.items()
        ]
        return tables, None

    def _read(
        self, document: str, written: Written, behind: Sequence[Behind] | None = None
    ) -> tuple[dict, list[dict], int | None]:
        answer, steps, first = super()._read(document, written, behind)
        _, places = self.find_labels(written)
        later = []
        try:
            for number in range(1, len(self.heads) + 1):
                later += self._read_head(number, written.states, places, steps)
        except BadLogits as error:
            self.bad[document] = error
        return answer, [*steps, *later], first

    @torch.inference_mode()
    def _read_head(self, number: int, states: torch.Tensor, places: Sequence[int], steps: list[dict]) -> list[dict]:
        """Returns a later head's rows; a label so early that its state lies in the prompt has none."""
        kept = [i for i, place in enumerate(places) if place >= number]
        if not kept:
            return []
        head = self.heads[number - 1]
        output = head[-1].weight
        read = states[[places[i] - number for i in kept]].to(output.device, output.dtype)
        logits = head(read).double().cpu().numpy()
        if not np.isfinite(logits).all():
            raise BadLogits(f"Medusa head {number} gives logits")
        normaliser = np.logaddexp.reduce(logits, axis=1)
        return [
            {
                **steps[i],
                "variant": f"{VARIANT}{number}",
                **self.label_tokens.describe(logits[row, self.label_tokens.select], normaliser[row]),
                "goes_on": np.nan,
                "stops": np.nan,
            }
            for row, i in enumerate(kept)
        ]
