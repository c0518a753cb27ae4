"""The paper's convolutional pair for 28x28 grey images (appendix C, Figure 10)."""

from typing import Literal, final

from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, LatentDim, check_example_shape
from dpvae_cli.architectures.layers import with_relu

SHAPE = (1, 28, 28)
CHANNELS, WIDTH = 32, 256
FEATURES = CHANNELS * 4 * 4


@final
class MnistConv(ArchitectureSpec):
    """Four convolutions of 32 channels, two layers of 256, mirrored back; ReLU, no batch norm.

    Kernels and strides are not in the paper; these (4, 4, 3, 3; images 28 - 14 - 7 - 4 - 4) have
    the released code's parameter counts, 233,604 and 233,569 at L = 2.
    """

    kind: Literal["mnist_conv"] = "mnist_conv"
    latent_dim: LatentDim = 2
    """L, the number of latent dimensions (released code: 2)."""

    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        check_example_shape(
            self.kind, example_shape, SHAPE, "Use architecture=mlp, which takes any shape."
        )
        convolutions = with_relu(
            nn.Conv2d(1, CHANNELS, 4, stride=2, padding=1),
            nn.Conv2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=1, padding=1),
        )
        dense = with_relu(nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH))
        encoder = nn.Sequential(
            *convolutions, nn.Flatten(), *dense, nn.Linear(WIDTH, 2 * self.latent_dim)
        )
        decoder = nn.Sequential(
            *with_relu(
                nn.Linear(self.latent_dim, WIDTH),
                nn.Linear(WIDTH, WIDTH),
                nn.Linear(WIDTH, FEATURES),
            ),
            nn.Unflatten(1, (CHANNELS, 4, 4)),
            *with_relu(
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, stride=1, padding=1),
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
                nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
            ),
            nn.ConvTranspose2d(CHANNELS, 1, 4, stride=2, padding=1),
        )
        return encoder, decoder
