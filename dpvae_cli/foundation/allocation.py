"""Networks that would not fit into memory, refused before anything of them is made."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from dpvae_cli.foundation.memory import ran_out
from dpvae_cli.foundation.strangers import refuse_too_large

FLOAT32 = 4
HINT = "Make the networks narrower or the batch smaller."


def refuse_networks(what: str, make: Callable[[], Iterable[nn.Module]]) -> None:
    """Refuse networks whose weights alone need more memory than there is.

    They are made on torch's meta device, where a tensor has a shape and no numbers; what cannot be
    made there is let through.

    Raises:
        UsageError: says how much they need; or what `make` raises of its own.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            needed = FLOAT32 * sum(map(count, make()))
    except (RuntimeError, NotImplementedError) as error:
        needed = 2**64 if ran_out(error) else 0
    refuse_too_large(what, needed, hint=HINT)


def count(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())
