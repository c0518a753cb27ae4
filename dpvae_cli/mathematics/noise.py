"""Noise that is drawn where its generator is and used where it is needed."""

import torch
from torch import Tensor


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
