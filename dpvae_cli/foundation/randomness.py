"""Random generators as functions of (seed, name, position).

The noise of training step 4,711 comes from `stream(seed, "noise", 4711)`, however often the run was
resumed before. Checkpoints therefore hold no generator state, and a resumed run is bit-identical to
an uninterrupted one.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *position: str | int) -> int:
    """Return the 63-bit seed of the stream at `position` under the run's `seed`."""
    text = "/".join(str(part) for part in (seed, *position))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *position: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded for `position`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *position))


@contextmanager
def fork_rng(seed: int, *position: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block, for initial weights; then restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *position))
        yield


def normal_noise(*shape: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return standard normal numbers of the type and on the device of `like`.

    They are drawn on the generator's device, so a CPU generator gives the same on every device.
    """
    device = like.device if generator is None else generator.device
    drawn = torch.randn(shape, generator=generator, dtype=like.dtype, device=device)
    return drawn.to(like.device)


def uniform_noise(*shape: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return numbers of [0, 1), drawn and placed as by `normal_noise`."""
    device = like.device if generator is None else generator.device
    drawn = torch.rand(shape, generator=generator, dtype=like.dtype, device=device)
    return drawn.to(like.device)
