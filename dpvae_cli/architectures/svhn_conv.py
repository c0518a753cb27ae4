"""The convolutional pair for 32x32 RGB images (paper, appendix C, Figure 10)."""

from typing import Literal, final

from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, LatentDim, check_example_shape
from dpvae_cli.architectures.layers import with_relu

SHAPE = (3, 32, 32)
CHANNELS = 32
FEATURES = CHANNELS * 4 * 4


@final
class SvhnConv(ArchitectureSpec):
    """Eight convolutions of 32 channels, mirrored back; ReLU, batch norm in the encoder alone.

    Kernels and strides are the released code's (images 32 - 16 - 16 - 8 - 8 - 6 - 6 - 4 - 4).
    Neither it nor the paper states the latent size: 32 is ours.
    """

    kind: Literal["svhn_conv"] = "svhn_conv"
    latent_dim: LatentDim = 32
    """L, the number of latent dimensions (ours; the paper states none)."""

    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        check_example_shape(
            self.kind,
            example_shape,
            SHAPE,
            "Use architecture=conv for square images, architecture=mlp for any shape.",
        )
        encoder = nn.Sequential(
            *_convolution(3, 4, stride=2, padding=1),
            *_convolution(CHANNELS, 3, padding=1),
            *_convolution(CHANNELS, 4, stride=2, padding=1),
            *_convolution(CHANNELS, 3, padding=1),
            *_convolution(CHANNELS, 3),
            *_convolution(CHANNELS, 3, padding=1),
            *_convolution(CHANNELS, 3),
            *_convolution(CHANNELS, 3, padding=1),
            nn.Flatten(),
            nn.Linear(FEATURES, 2 * self.latent_dim),
        )
        decoder = nn.Sequential(
            *with_relu(nn.Linear(self.latent_dim, FEATURES)),
            nn.Unflatten(1, (CHANNELS, 4, 4)),
            *with_relu(
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 3),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 3),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
            ),
            nn.Conv2d(CHANNELS, 3, 3, padding=1),
        )
        return encoder, decoder


def _convolution(
    width_in: int, kernel: int, *, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    # no bias: batch norm would take it out again
    convolution = nn.Conv2d(width_in, CHANNELS, kernel, stride=stride, padding=padding, bias=False)
    return [convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU()]
