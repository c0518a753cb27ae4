"""Layers that several convolutional pairs are made of."""

from typing import Literal

from torch import nn

Padding = Literal["zeros", "replicate"]
SLOPE = 0.01
"""Of leaky ReLUs below zero, where nothing else is said."""


def with_relu(*layers: nn.Module) -> list[nn.Module]:
    """Return the layers, each followed by a ReLU."""
    return [part for layer in layers for part in (layer, nn.ReLU())]


def downsample_block(
    width_in: int, width_out: int, *, has_norm: bool, slope: float = SLOPE
) -> list[nn.Module]:
    """Return a 4x4 convolution that halves the side, batch norm if wanted, and leaky ReLU."""
    # a bias before batch norm would be taken out again
    convolution = nn.Conv2d(width_in, width_out, 4, stride=2, padding=1, bias=not has_norm)
    norm = [nn.BatchNorm2d(width_out)] if has_norm else []
    return [convolution, *norm, nn.LeakyReLU(slope)]


def upsample_block(
    width_in: int,
    width_out: int,
    *,
    has_norm: bool,
    padding: Padding = "zeros",
    slope: float = SLOPE,
) -> list[nn.Module]:
    """Return upsampling to twice the side, a 3x3 convolution, batch norm if wanted, leaky ReLU.

    Nearest upsampling before a convolution leaves no checkerboard, as a transposed convolution may.
    """
    convolution = nn.Conv2d(
        width_in, width_out, 3, padding=1, padding_mode=padding, bias=not has_norm
    )
    norm = [nn.BatchNorm2d(width_out)] if has_norm else []
    return [nn.Upsample(scale_factor=2, mode="nearest"), convolution, *norm, nn.LeakyReLU(slope)]
