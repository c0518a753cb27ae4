"""The Gaussian encoder around any network, and what an architecture's spec must offer."""

from abc import ABC, abstractmethod
from typing import Annotated, final

from pydantic import Field
from torch import nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.foundation.spec import Interval, Spec
from dpvae_cli.mathematics.gaussian import DiagonalGaussian

LatentDim = Annotated[int, Field(ge=1, le=4096)]
MOST_CHANNELS = 4
"""Of an image: RGB and transparency."""
LOG_VARIANCE_RANGE = (-20.0, 10.0)


def channel_layout_hint(example_shape: tuple[int, ...], otherwise: str) -> str:
    """Return what to do about images whose axes stand in another order than convolutions want.

    Args:
        example_shape: of the data.
        otherwise: the hint where the order is not what is wrong.
    """
    match example_shape:
        case (height, width, channels) if channels <= MOST_CHANNELS < min(height, width):
            return (
                f"Put the channels first, {(channels, height, width)}: "
                "x = numpy.moveaxis(x, -1, 1), or use architecture=mlp, which takes any shape."
            )
        case (height, width) if min(height, width) > MOST_CHANNELS:
            return (
                f"Give the images an axis of one channel, {(1, height, width)}: x = x[:, None], "
                "or use architecture=mlp, which takes any shape."
            )
    return otherwise


@final
class Encoder(nn.Module):
    """q(z|x): a network with 2 L outputs, read as mean and clamped log-variance.

    Args:
        network: maps examples to `(batch, 2 latent)`: mean first, log-variance second.
        log_variance_range: log-variances are clamped to it, so that a variance neither underflows
            nor overflows whatever the input.
    """

    def __init__(
        self, network: nn.Module, *, log_variance_range: tuple[float, float] = LOG_VARIANCE_RANGE
    ) -> None:
        super().__init__()
        self.network = network
        self.log_variance_range = log_variance_range

    def forward(self, x: Examples) -> DiagonalGaussian:
        """Return q(z|x) of each example."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_variance.clamp(*self.log_variance_range))


class ArchitectureSpec(Spec, ABC):
    """A recipe's `architecture` section."""

    latent_dim: LatentDim
    """L, the number of latent dimensions."""
    log_variance_range: Interval = LOG_VARIANCE_RANGE
    """The encoder's log-variances are clamped to this range."""

    @final
    def build(self, example_shape: tuple[int, ...]) -> tuple[Encoder, nn.Module]:
        """Return an untrained encoder and decoder.

        Raises:
            UsageError: examples of this shape do not fit.
        """
        network, decoder = self._networks(example_shape)
        return Encoder(network, log_variance_range=self.log_variance_range), decoder

    @abstractmethod
    def _networks(self, example_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        """Return the encoder's network with 2 L outputs, then the decoder."""


def check_example_shape(
    kind: str, example_shape: tuple[int, ...], expected: tuple[int, ...], otherwise: str
) -> None:
    """Check the shape of examples for an architecture that takes a single one.

    Raises:
        UsageError: it is another one.
    """
    if example_shape != expected:
        raise UsageError(
            f"architecture {kind} takes examples of shape {expected}, the data has {example_shape}",
            hint=channel_layout_hint(example_shape, otherwise),
        )
