"""Adapters: what `06_finetune` trains (PEFT), found by name and merged in a chain, never asked about what they learned.

The adapter `<model>+<label>` lies in `adapters/<model>+<label>/` of a run's folder, or of `data/`, with `run.json`
beside the weights: what it was trained on, how, and from which revision of the model. In the place of an adapter there
may be Medusa heads, which stand behind a model and leave it as it is.
"""

import copy
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoTokenizer
from transformers.utils import cached_file, find_adapter_config_file
from transformers.utils.hub import has_file

from mlutils import paths
from mlutils.corpora import Corpus, text_marks
from mlutils.files import checksum, making, read_json, write_json
from mlutils.tracing import revisions

WEIGHTS, ADAPTER = "adapter_model.safetensors", "adapter_config.json"
HEADS = "medusa_lm_head.safetensors"
AGAIN = "train it again, in a folder of its own or after deleting this one, or get it again"
WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class AdapterError(OSError):
    """Raised where an adapter cannot be applied: which, why, and what to do."""


def full_name(model: str, method: str, corpus: str, seed: int = 0, shots: int = 0, label: str = "") -> str:
    """Returns the name of an adapter: `<model>+<label>`, the label `<method>-<corpus>` unless given.

    Demonstrations in training prompts (`shots`) show as `<method>_icl`, a seed other than 0 as `-seed<k>`. Raises
    ValueError for a label that would be read as two adapters or as a folder.
    """
    label = label or f"{method}{'_icl' if shots else ''}-{corpus}"
    if "+" in label or "/" in label or label != label.strip():
        raise ValueError(f"label {label!r} must hold no +, no / and no blanks at its ends: + joins adapters to a model")
    return f"{model}+{label}" + (f"-seed{seed}" if seed else "")


def folder_name(name: str) -> str:
    """Returns the name of an adapter's folder: its full name, a hub id's or a folder's slashes written `--`."""
    return name.replace("/", "--")


def split_name(name: str) -> tuple[str, list[str]]:
    """Returns the model that a name begins with, and the full names of the adapters on it, in the order they apply.

    A folder that exists is a model, whatever its name holds.
    """
    parts = name.split("+")
    lengths = [n for n in range(len(parts), 0, -1) if Path("+".join(parts[:n])).expanduser().is_dir()]
    base = lengths[0] if lengths else 1
    return "+".join(parts[:base]), ["+".join(parts[:n]) for n in range(base + 1, len(parts) + 1)]


def find(name: str, places: Sequence[Path | str] = ()) -> Path:
    """Returns the folder of the adapter with this full name: in the `adapters/` of a place, else of `data/`.

    Raises OSError that lists the known ones where there is none.
    """
    homes = [Path(place) / "adapters" for place in (*places, paths.DATA)]
    made = [file.parent for home in homes for weights in (WEIGHTS, HEADS) for file in home.glob(f"*/{weights}")]
    for folder in made:
        if folder.name == folder_name(name):
            return folder
    known = sorted(set(map(_name, made)))
    raise OSError(
        f"no adapter is called {name!r}: looked in {', '.join(map(str, homes))}, which hold "
        f"{', '.join(known) or 'none'}. Train it with 06_finetune, and give that run's folder in `reads`"
    )


def _name(folder: Path) -> str:
    try:
        return read_record(folder)["name"]
    except OSError:  # another adapter is asked for: this one's record is not what is wrong
        return f"{folder.name} (its run.json cannot be read)"


def read_record(folder: Path | str) -> dict:
    """Returns what stands beside an adapter's weights (`run.json`); raises OSError where it is missing or broken."""
    record = read_json(Path(folder) / "run.json", OSError, f"it is the record of an adapter, {AGAIN}")
    if missing := ", ".join(sorted({"name", "base", "base_revision", "trained_on"} - set(record))):
        raise OSError(f"adapter {folder} has a run.json without {missing}: {AGAIN}")
    return record


def read_trained_on(folder: Path | str, what: str = "trained_on") -> dict[str, frozenset[str]]:
    """Returns the ids of documents that the model in a folder was trained on, by corpus, where its records say.

    what: `trained_texts` for the marks of their texts in place of ids. Raises OSError for a record that cannot be read.
    """
    files = [file for name in ("manifest.json", "run.json") if (file := Path(folder) / name).exists()]
    advice = "it says what a model was trained on, get it again"
    return unite(read_json(file, OSError, advice).get(what, {}) for file in files)


def read_base(source: Path | str) -> str | None:
    """Returns the model that a PEFT folder or hub id names as its base, None where it is no adapter.

    Raises OSError where whole weights lie beside the adapter: it may be merged into them already.
    """
    file = find_adapter_config_file(str(source))
    if file is None:
        return None
    if any(has_file(str(source), name) for name in WHOLE):
        raise AdapterError(
            f"{source} holds whole weights and an adapter ({ADAPTER}): transformers would apply it once more if it is "
            f"merged already. If it is, remove {ADAPTER} and adapter_model.*; if not, give a folder that holds these "
            "alone"
        )
    base = read_json(file, AdapterError, "get the adapter again").get("base_model_name_or_path")
    if not base:
        raise AdapterError(f"{file} does not name the adapter's base model: write it there (base_model_name_or_path)")
    return base


def apply_folder(model, name: str, source: Path | str):
    """Returns the model with the adapter of a PEFT folder or hub id merged into its weights, as `apply` does.

    Its tokenizer is the adapter's where it has one. What an adapter without a record of ours was trained on nobody
    knows, and the run says so.
    """
    try:
        folder = Path(cached_file(str(source), WEIGHTS)).parent
        for each in ("run.json", "tokenizer.json", "tokenizer_config.json"):  # of a hub id: beside the weights
            cached_file(str(source), each, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise AdapterError(
            f"adapter {source} has no {WEIGHTS} that can be had ({str(error).splitlines()[0]}): .bin files can run "
            "code when they are read, and are refused"
        ) from None
    if (folder / "run.json").exists():
        merged = apply(model, name, folder)
    else:
        asked = read_json(folder / ADAPTER, AdapterError, "get the adapter again").get("revision")
        if asked and re.fullmatch("[0-9a-f]{40}", asked) and asked != model.revision:  # a branch says nothing
            raise AdapterError(
                f"adapter {source} was trained from revision {asked} of {model.name!r}, here is {model.revision}: get "
                f"that revision into a folder, and name it in {ADAPTER} (base_model_name_or_path, no revision)"
            )
        print(f"{name}: an adapter without run.json; which documents it was trained on is not known, none is refused")
        merged = _merge(model, name, folder)
    if (folder / "tokenizer_config.json").exists():
        merged = dataclasses.replace(merged, tokenizer=AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    return dataclasses.replace(merged, revision=f"{model.revision}+{revisions.fingerprint(folder)[:12]}")


def apply(model, name: str, folder: Path):
    """Returns the model with one more adapter merged into its weights, in the model's own dtype (float32 on a CPU), or
    with Medusa heads behind it.

    Its name is the adapter's, its revision holds a hash of the weights. Raises OSError where the adapter was trained
    from other weights, or does not fit, and behind Medusa heads, which know the states of their own model only.
    """
    if model.heads is not None:
        raise AdapterError(f"{name!r} would change the model behind which the heads of {model.name!r} were trained")
    record = read_record(folder)
    if record["base_revision"] != model.revision:
        raise AdapterError(
            f"adapter {name!r} was trained from revision {record['base_revision']} of {record['base']!r}, here is "
            f"{model.revision}: train it again"
        )
    if (folder / HEADS).exists():
        revision = f"{model.revision}+{checksum(folder / HEADS)[:12]}"
        merged = dataclasses.replace(model, name=name, revision=revision, heads=folder)
    else:
        merged = _merge(model, name, folder)
    texts = unite([model.trained_texts, record.get("trained_texts", {})])  # adapters made before have no marks of texts
    trained_on = unite([model.trained_on, record["trained_on"]])
    return dataclasses.replace(merged, trained_on=trained_on, trained_texts=texts)


def _merge(model, name: str, folder: Path):
    from peft import PeftModel  # takes seconds, and few runs need it

    read_json(folder / ADAPTER, AdapterError, AGAIN)  # PEFT does not name a file that it cannot read
    try:
        adapted = PeftModel.from_pretrained(model.network, str(folder))
        if adapted.peft_config["default"].is_prompt_learning:
            raise ValueError(f"{adapted.peft_config['default'].peft_type.value} has no weights that can be merged")
        network = adapted.merge_and_unload(safe_merge=True)
    except SafetensorError as error:
        raise AdapterError(f"{folder / WEIGHTS} of adapter {name!r} cannot be read ({error}): {AGAIN}") from error
    except (ValueError, RuntimeError) as error:
        raise AdapterError(f"adapter {name!r} does not fit {model.name!r}: {str(error).splitlines()[0]}") from error
    network.eval().requires_grad_(False)
    revision = f"{model.revision}+{checksum(folder / WEIGHTS)[:12]}"
    return dataclasses.replace(model, name=name, network=network, revision=revision)


def unite(parts: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, frozenset[str]]:
    """Returns ids by corpus, those of all parts together."""
    united: dict[str, frozenset[str]] = {}
    for part in parts:
        for corpus, ids in part.items():
            united[corpus] = united.get(corpus, frozenset()) | frozenset(ids)
    return united


def check_untested(model, corpus: Corpus) -> None:
    """Raises ValueError where a model was trained on documents that it is to be asked about, or on copies of them."""
    known = model.trained_on.get(corpus.name, frozenset())
    texts = model.trained_texts.get(corpus.name, frozenset())
    marked = zip(corpus.documents["id"], text_marks(corpus), strict=True)
    shared = [document for document, mark in marked if document in known or mark in texts]
    if shared:
        raise ValueError(
            f"{model.name} was trained on {len(shared)} of these {len(corpus)} documents of {corpus.name} "
            f"({', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}): ask about another split, or train again "
            "with these documents as the tested ones of 06_finetune"
        )


def save(network, folder: Path, record: Mapping) -> Path:
    """Writes a PEFT model's adapter, or Medusa heads, as float16, with `run.json` beside it, and returns the folder.

    The record needs name, base, base_revision, trained_on, recipe and seed. Written under a temporary name, then
    renamed. Raises ValueError for a record without these, or weights that float16 cannot hold.
    """
    from peft import get_peft_model_state_dict

    missing = {"name", "base", "base_revision", "trained_on", "recipe", "seed"} - set(record)
    if missing:
        raise ValueError(f"the record of adapter {folder.name} lacks {', '.join(sorted(missing))}")
    if hasattr(network, "peft_config"):
        file, states = WEIGHTS, get_peft_model_state_dict(network)
        config = copy.deepcopy(network.peft_config["default"])
        config.inference_mode, config.base_model_name_or_path = True, record["base"]
        write_config = config.save_pretrained
    else:
        file, states = HEADS, network.state_dict()
        described = {"base_model_name_or_path": record["base"], **network.told}

        def write_config(made: Path) -> None:
            write_json(made / "config.json", described)

    weights = {k: v.detach().half().cpu().contiguous() for k, v in states.items()}
    broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"adapter {record['name']}: {len(broken)} weights are not finite in float16, e.g. {broken[0]}")
    with making(folder) as made:
        write_config(made)
        save_file(weights, made / file, metadata={"format": "pt"})
        write_json(made / "run.json", dict(record))
    return folder
