"""Devices: choose one, compute in a precision on it, and know how large networks will be on it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Literal, TypeVar, final

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.distributed import local_rank
from dpvae_cli.foundation.errors import UntestedWarning, UsageError
from dpvae_cli.foundation.memory import check_fits_in_memory, is_out_of_memory
from dpvae_cli.foundation.shapes import Examples

FLOAT32 = 4
SMALLER_HINT = "Make the networks narrower or the batch smaller."

Network = TypeVar("Network", bound=nn.Module)
PrecisionName = Literal["float32", "bf16", "float64"]


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


def check_model_memory(what: str, make: Callable[[], Iterable[nn.Module]]) -> None:
    """Check that the weights of networks fit into memory; `make` builds them on the meta device.

    Networks that cannot be built on the meta device are not checked.

    Raises:
        UsageError: they need more memory than there is; or what `make` raises.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            needed = FLOAT32 * sum(map(num_parameters, make()))
    except (RuntimeError, NotImplementedError) as error:
        needed = 2**64 if is_out_of_memory(error) else 0
    check_fits_in_memory(what, needed, hint=SMALLER_HINT)


def shape_mismatch(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> str | None:
    """Return how stored tensors differ in name or shape from those of the module `make` builds.

    No memory is allocated. None where they agree, or where the module cannot be built on torch's
    meta device.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            module = make()
    except (RuntimeError, NotImplementedError) as error:
        return "its networks are larger than all memory" if is_out_of_memory(error) else None
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*expected, *stored]:
        if expected.get(name) != stored.get(name):
            return f"{name} has shape {expected.get(name)}, the file has {stored.get(name)}"
    return None


def num_parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block; then restore the mode of each submodule."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@final
class Precision:
    """Puts networks and batches into the precision of a run.

    Raises:
        UsageError: the device cannot do it.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        if name == "float64" and device.type == "mps":
            raise UsageError(
                "training.precision is float64, and mps has no float64",
                hint="Add --device cpu, or train with training.precision=float32.",
            )
        self._name, self._device = name, device
        self.dtype = torch.float64 if name == "float64" else torch.float32

    def place(self, network: Network) -> Network:
        """Move a network to the device, its floating-point tensors in the type of the weights.

        Weights of two-dimensional convolutions are laid out channels last, which CPUs and GPUs
        compute with faster; their values and names do not change.
        """
        network.to(self._device, self.dtype)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)
        return network

    def batch(self, x: Examples) -> Examples:
        """Return examples in the type of the weights."""
        return x.to(self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a training step calls encoder and decoder."""
        if self._name != "bf16":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def __str__(self) -> str:
        """Return the name, and for bf16 how far it reaches."""
        return "bf16 in encoder and decoder, else float32" if self._name == "bf16" else self._name
