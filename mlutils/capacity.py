"""How much memory models need and how much is free: what a grid runs together, what is refused unread.

Light enough for the Snakefile, which asks it for every run.
"""

import functools
import math
from pathlib import Path

import gguf
import psutil
from safetensors import SafetensorError, safe_open

from mlutils import paths, sources

PACKED = 1.5  # times the weights, in float32 on cores: linear layers are packed, both copies of some of them stand
WORK = 2_000_000_000  # bytes beside the weights: Python, a pass and the documents that it is about
LARGE = 1_000_000_000  # parameters; a larger model gets all cores
GROUPS = Path("/sys/fs/cgroup")
# Version of control groups -> folder of their memory, files of limit and use, and what of the use is given back.
FILES = {
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("", "memory.max", "memory.current", "inactive_file"),
}


def count_parameters(model: str) -> int | None:
    """Returns how many numbers a model holds: by its name in the catalogue, in a folder of safetensors or a GGUF file.

    Adapters behind a name are merged into it and add none. None where it is not known before it is read: a hub id.
    """
    if not model:
        return None
    base = model.partition("+")[0]
    if "parameters" in (known := sources.catalogue().get(base, {})):
        return known["parameters"]
    place = Path(model).expanduser() if Path(model).expanduser().exists() else Path(base).expanduser()
    if base.startswith("miniature-"):
        place = paths.DATA / "miniatures" / base.removeprefix("miniature-")
    if place.suffix == ".gguf" and place.is_file():
        return _count_gguf(place, place.stat().st_mtime_ns)
    return _count_folder(place) if place.is_dir() else None


def _count_folder(folder: Path) -> int | None:
    """Returns what the headers of a folder's weights say; None where one is damaged: who reads it names it."""
    count = 0
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "numpy") as opened:
                names = opened.keys()
                count += sum(math.prod(opened.get_slice(name).get_shape()) for name in names)
        except SafetensorError:
            return None
    return count or None


@functools.cache
def _count_gguf(file: Path, written: int) -> int:
    return sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors)


def estimate(parameters: int, itemsize: int = 4, packed: bool = True) -> int:
    """Returns the bytes of memory that asking a model needs, weights of `itemsize` bytes and all beside them."""
    return int(parameters * itemsize * (PACKED if packed and itemsize == 4 else 1)) + WORK


def plan(model: str, cores: int, free: float) -> tuple[int, int | None]:
    """Returns on how many of the cores a run that asks a model goes, and the bytes it needs, None where not known.

    Half of the cores, so that two such runs go at a time; all where the model is large, or where `free` bytes do not
    hold it twice.
    """
    parameters = count_parameters(model)
    if parameters is None:
        return max(1, cores // 2), None
    needed = estimate(parameters)
    alone = parameters > LARGE or 2 * needed > free
    return max(1, cores if alone else cores // 2), needed


def measure_free() -> float:
    """Returns the bytes that are free: the least of the machine's available memory and of what control groups leave."""
    return min(psutil.virtual_memory().available, _measure_groups())


def _measure_groups(own: Path = Path("/proc/self/cgroup"), root: Path = GROUPS) -> float:
    """Returns the bytes that control groups leave this process; infinite where there are none, or no limit."""
    free = math.inf
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else []:
        number, controllers, path = line.split(":", 2)
        version = 2 if number == "0" else 1 if "memory" in controllers.split(",") else 0
        if not version:
            continue
        mount, *names = FILES[version]
        place = root / mount / path.lstrip("/")
        # A limit of a group holds for those within it; in a container the path may lead nowhere, but the root is there.
        for folder in (place, *(each for each in place.parents if each.is_relative_to(root / mount))):
            free = min(free, _read_group(folder, *names))
    return free


def _read_group(folder: Path, limit: str, use: str, returned: str) -> float:
    """Returns what is left of the limit of a group; infinite where it has none."""
    try:
        most, used = ((folder / name).read_text(encoding="utf-8").strip() for name in (limit, use))
        statistics = (folder / "memory.stat").read_text(encoding="utf-8").split()
    except OSError:
        return math.inf
    if most == "max":
        return math.inf
    kept = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(returned, "0")
    return max(0, int(most) - int(used) + int(kept))
