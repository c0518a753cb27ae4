"""A convolutional pair for square images of many sizes: the user's own images."""

import math
from itertools import chain, pairwise
from typing import Annotated, Literal, final

from pydantic import Field
from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, LatentDim, channel_layout_hint
from dpvae_cli.architectures.layers import downsample_block, upsample_block
from dpvae_cli.foundation.errors import UsageError

SMALLEST, WIDEST = 4, 8


@final
class Conv(ArchitectureSpec):
    """Convolutions that halve the side `depth` times, mirrored by upsampling.

    The channels double with each step, up to eight times `width`. There is no batch norm, so
    training and evaluation compute the same.
    """

    kind: Literal["conv"] = "conv"
    latent_dim: LatentDim = 16
    """L, the number of latent dimensions."""
    width: Annotated[int, Field(ge=1)] = 32
    """Channels after the first convolution."""
    depth: Annotated[int, Field(ge=1)] | None = None
    """How often the side is halved; null: while it is even and at least 8 (64 down to 4)."""

    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        if len(example_shape) != 3 or example_shape[1] != example_shape[2]:
            raise UsageError(
                "architecture conv takes square images, (channels, side, side); "
                f"the data has examples of shape {example_shape}",
                hint=channel_layout_hint(
                    example_shape, "Use architecture=mlp, which takes any shape."
                ),
            )
        channels, side, _ = example_shape
        fitting = (side & -side).bit_length() - 1  # how often it is divisible by 2
        depth = self.depth
        if (depth or 0) > fitting or fitting == 0 or (depth is None and side < 2 * SMALLEST):
            wanted = "twice or more" if depth is None else f"{depth} times"
            raise UsageError(
                f"architecture conv cannot halve a side of {side} pixels {wanted}: "
                f"it can be halved {fitting} times",
                hint="Give data.size=32, 64 or 128, an architecture.depth that fits, "
                "or architecture=mlp.",
            )
        depth = depth or min(fitting, (side // (2 * SMALLEST)).bit_length())
        widths = [self.width * min(2**step, WIDEST) for step in range(depth)]
        inner = (widths[-1], side >> depth, side >> depth)
        features = math.prod(inner)
        down = [downsample_block(a, b, has_norm=False) for a, b in pairwise((channels, *widths))]
        encoder = nn.Sequential(
            *chain.from_iterable(down), nn.Flatten(), nn.Linear(features, 2 * self.latent_dim)
        )
        up = [upsample_block(a, b, has_norm=False) for a, b in pairwise((*widths[::-1], channels))]
        layers = list(chain.from_iterable(up))[:-1]  # nothing after the last convolution
        decoder = nn.Sequential(
            nn.Linear(self.latent_dim, features), nn.LeakyReLU(), nn.Unflatten(1, inner), *layers
        )
        return encoder, decoder
