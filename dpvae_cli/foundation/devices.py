"""Choose the device to compute on."""

import warnings
from collections.abc import Callable
from functools import cache

import torch

from dpvae_cli.foundation.distributed import local_rank
from dpvae_cli.foundation.errors import UntestedWarning, UsageError


def resolve(name: str = "auto") -> torch.device:
    """Return the device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    With several local ranks each takes the GPU of its local rank.

    Raises:
        UsageError: the name is not a device, or the device is not available.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
        if name == "mps":
            _warn_of_mps()
    if name == "cuda" and (number := local_rank()) is not None:
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"--device {name} is not a device", hint="Use auto, cpu, cuda, cuda:N or mps."
        ) from error
    is_available: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if device.type not in is_available or not is_available[device.type]():
        raise UsageError(
            f"--device {name} is not available here", hint=f"Available: {', '.join(available())}."
        )
    return device


@cache
def _warn_of_mps() -> None:
    """Say once that nobody has tested this device."""
    warnings.warn(
        "computing on mps, where dpvae has not been tested; device cpu has been",
        UntestedWarning,
        stacklevel=4,
    )


def available() -> list[str]:
    """Return the names of the devices that can be used here."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
