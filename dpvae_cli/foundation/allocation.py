"""Networks: their sizes, known before any memory is allocated for them, and evaluation mode."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.memory import check_fits_in_memory, is_out_of_memory

FLOAT32 = 4
SMALLER_HINT = "Make the networks narrower or the batch smaller."


def check_model_memory(what: str, make: Callable[[], Iterable[nn.Module]]) -> None:
    """Check that the weights of networks fit into memory; `make` builds them on the meta device.

    Networks that cannot be built on the meta device are not checked.

    Raises:
        UsageError: they need more memory than there is; or what `make` raises.
    """
    try:
        with _on_meta_device():
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
        with _on_meta_device():
            module = make()
    except (RuntimeError, NotImplementedError) as error:
        return "its networks are larger than all memory" if is_out_of_memory(error) else None
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*expected, *stored]:
        if expected.get(name) != stored.get(name):
            return f"{name} has shape {expected.get(name)}, the file has {stored.get(name)}"
    return None


@contextmanager
def _on_meta_device() -> Iterator[None]:
    """Build networks on torch's meta device, where tensors have shapes but no data."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


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
