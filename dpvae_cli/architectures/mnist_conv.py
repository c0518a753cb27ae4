"""The paper's convolutional pair for 28x28 grey images (appendix C, Figure 10)."""

from typing import Literal, final

from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, Encoder, LatentDim, channel_layout_hint
from dpvae_cli.foundation.errors import UsageError

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

    def build(self, example_shape: tuple[int, ...]) -> tuple[Encoder, nn.Module]:
        """Return the pair; only 1x28x28 fits."""
        if example_shape != SHAPE:
            raise UsageError(
                f"architecture mnist_conv takes examples of shape {SHAPE}, "
                f"the data has {example_shape}",
                hint=channel_layout_hint(
                    example_shape, "Use architecture=mlp, which takes any shape."
                ),
            )
        encoder = Encoder(_encoder(self.latent_dim), log_variance_range=self.log_variance_range)
        return encoder, _decoder(self.latent_dim)


def _encoder(latent_dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, stride=1, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(FEATURES, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 2 * latent_dim),
    )


def _decoder(latent_dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(latent_dim, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, FEATURES),
        nn.ReLU(),
        nn.Unflatten(1, (CHANNELS, 4, 4)),
        nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, stride=1, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(CHANNELS, 1, 4, stride=2, padding=1),
    )
