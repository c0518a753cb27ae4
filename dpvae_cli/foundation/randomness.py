"""Random streams as functions of (seed, name, position), so that nothing has to be remembered.

The noise of training step 4,711 comes from `stream(seed, "noise", 4711)` whether the run reached
that step in one go or was killed and resumed ten times. A checkpoint therefore holds no generator
state, and a resumed run repeats an uninterrupted one to the bit.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *position: str | int) -> int:
    """Return the 63-bit seed of the stream at `position` under the run's `seed`."""
    text = "/".join(str(part) for part in (seed, *position))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *position: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded for `position`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *position))


@contextmanager
def seeded(seed: int, *position: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block (for initial weights), restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *position))
        yield
