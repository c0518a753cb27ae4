"""Networks that would not fit into memory, refused before anything of them is made."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.memory import check_fits_in_memory, is_out_of_memory

FLOAT32 = 4
SMALLER_HINT = "Make the networks narrower or the batch smaller."


def check_model_memory(what: str, make: Callable[[], Iterable[nn.Module]]) -> None:
    """Refuse networks whose weights alone need more memory than there is.

    Networks that the meta device cannot make are let through.

    Raises:
        UsageError: says how much they need; or what `make` raises of its own.
    """
    try:
        with _on_meta_device():
            needed = FLOAT32 * sum(map(num_parameters, make()))
    except (RuntimeError, NotImplementedError) as error:
        needed = 2**64 if is_out_of_memory(error) else 0
    check_fits_in_memory(what, needed, hint=SMALLER_HINT)


def shape_mismatch(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> str | None:
    """Return how stored tensors differ in name or shape from a module's, before it takes memory.

    None where they agree, or where the meta device cannot make the module.
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
    """Make networks on torch's meta device, where a tensor has a shape and no numbers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


def num_parameters(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
