"""Fully connected encoder and mirrored decoder, for vectors of any shape (paper, appendix C)."""

import math
from itertools import pairwise
from typing import Literal, final

from torch import nn

from dpvae_cli.architectures.base import ArchitectureSpec, LatentDim
from dpvae_cli.foundation.spec import LayerSizes

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


@final
class Mlp(ArchitectureSpec):
    """D - hidden - 2 L and mirrored back; the paper's two-moons nets are 2 - 100 - 50 - 2 L.

    The released code's `nn.LeakyReLU(True)` has slope one, which makes these nets affine; here
    the slope is real, and `activation: identity` repeats that.
    """

    kind: Literal["mlp"] = "mlp"
    latent_dim: LatentDim = 2
    """L, the number of latent dimensions."""
    hidden: LayerSizes = (100, 50)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    activation: Literal["relu", "leaky_relu", "tanh", "identity"] = "leaky_relu"
    """Activation between layers; leaky_relu has slope 0.01, identity makes the networks affine."""

    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        size = math.prod(example_shape)
        down = self._layers(size, *self.hidden, 2 * self.latent_dim)
        up = self._layers(self.latent_dim, *reversed(self.hidden), size)
        encoder = nn.Sequential(nn.Flatten(), *down)
        return encoder, nn.Sequential(*up, nn.Unflatten(1, example_shape))

    def _layers(self, *widths: int) -> list[nn.Module]:
        """Return linear layers with the activation between them, none after the last."""
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[self.activation]()]
        return layers[:-1]
