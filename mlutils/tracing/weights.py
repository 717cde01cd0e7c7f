"""What the weights of a model need of memory: said and, where it is not there, refused before they are read."""

import torch

from mlutils import capacity

SAID = 2**30  # bytes; less is not worth a line


def check(name: str, place: str, dtype: torch.dtype, device: str) -> None:
    """Says what a model needs where that is much. Raises MemoryError where it is not free.

    place: the folder that the model is read from. device: cpu, or where GPUs take it: auto, cuda, cuda:N. Of a hub id
    nothing is known here, and nothing is said.
    """
    parameters = capacity.count_parameters(place)
    if parameters is None:
        return
    cores = device == "cpu"
    needed = capacity.estimate(parameters, dtype.itemsize, packed=cores)
    free = capacity.measure_free() if cores else sum(map(measure_free, _list_gpus(device)))
    takes = (
        f"{parameters / 1e6:,.0f} million parameters in {str(dtype).removeprefix('torch.')}, which need "
        f"{needed / 1e9:.1f} GB of memory while they are asked; {free / 1e9:.1f} GB are free"
    )
    if needed > free:
        raise MemoryError(
            f"model {name!r} has {takes}: end other programs, run fewer at a time (--cores 1), or take a smaller model "
            "or dtype bfloat16"
        )
    if needed - capacity.WORK > SAID:
        print(f"{name}: {takes}")


def check_unpacking(name: str, parameters: int) -> None:
    """Says that a model is unpacked and what that takes. Raises MemoryError where it is not free."""
    needed, free = capacity.estimate(parameters, packed=False), capacity.measure_free()
    takes = f"{needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free"
    if needed > free:
        raise MemoryError(f"unpacking model {name!r} needs {takes}: end other programs, or take a smaller model")
    if needed - capacity.WORK > SAID:
        print(f"{name}: unpacked once, some minutes, {takes}")


def measure_free(device: torch.device) -> float:
    """Returns the bytes that are free for tensors on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return capacity.measure_free()


def _list_gpus(device: str) -> list[torch.device]:
    """Returns the GPUs that a model is spread over."""
    return (
        [torch.device("cuda", n) for n in range(torch.cuda.device_count())]
        if device == "auto"
        else [torch.device(device)]
    )
