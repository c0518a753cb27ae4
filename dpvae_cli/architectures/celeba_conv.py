"""The convolutional pair for 64x64 RGB images (paper, appendix C, Figure 10)."""

from itertools import chain, pairwise
from typing import Annotated, Literal, final

from pydantic import Field
from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, LatentDim, check_example_shape
from dpvae_cli.architectures.layers import SLOPE, downsample_block, upsample_block

SHAPE = (3, 64, 64)
WIDTHS = (32, 64, 128, 256, 256)
FEATURES = WIDTHS[-1] * 2 * 2


@final
class CelebaConv(ArchitectureSpec):
    """Five convolutions of 32, 64, 128, 256 and 256 channels, upsampled back; batch norm in both.

    Kernels, strides, nearest upsampling and replicated borders are the released code's. Its
    `nn.LeakyReLU(True)` has slope one, which makes these nets affine but for batch norm; here the
    slope is `negative_slope`. Neither it nor the paper states the latent size: 64 is ours.
    """

    kind: Literal["celeba_conv"] = "celeba_conv"
    latent_dim: LatentDim = 64
    """L, the number of latent dimensions (ours; the paper states none)."""
    negative_slope: Annotated[float, Field(ge=0, le=1)] = SLOPE
    """Slope of the leaky ReLUs below zero; 1, as in the released code by accident, is linear."""

    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        check_example_shape(
            self.kind,
            example_shape,
            SHAPE,
            "Give data.size=64, or use architecture=conv for other square images.",
        )
        slope = self.negative_slope
        down = [
            downsample_block(a, b, has_norm=True, slope=slope) for a, b in pairwise((3, *WIDTHS))
        ]
        encoder = nn.Sequential(
            *chain.from_iterable(down), nn.Flatten(), nn.Linear(FEATURES, 2 * self.latent_dim)
        )
        up = [
            upsample_block(a, b, has_norm=True, padding="replicate", slope=slope)
            for a, b in pairwise(reversed(WIDTHS))
        ]
        decoder = nn.Sequential(
            nn.Linear(self.latent_dim, FEATURES),
            nn.LeakyReLU(slope),
            nn.Unflatten(1, (WIDTHS[-1], 2, 2)),
            *chain.from_iterable(up),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(WIDTHS[0], 3, 3, padding=1, padding_mode="replicate"),
        )
        return encoder, decoder
