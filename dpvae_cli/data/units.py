"""Units of the data: how the numbers that a model sees are read in them, and shown as pixels."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from torch import Tensor

from dpvae_cli.foundation.shapes import Examples

PIXEL_RANGES = ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, 255.0))
"""The usual values of black and white, the narrowest first."""
HALF_OF_EIGHT_BITS = 127
ROUND_OFF = 1e-5
"""Share of a range by which values may lie outside: they were standardized in float32."""


@final
class Standardization(NamedTuple):
    """Mean and deviation of every entry of the training examples: float64, shaped as an example."""

    mean: Tensor
    deviation: Tensor

    def transform(self, x: Tensor) -> Examples:
        """Return examples in the data's own units as the model sees them."""
        return ((x.double().cpu() - self.mean) / self.deviation).float()

    def inverse_transform(self, x: Tensor) -> Tensor:
        """Return what the model sees in the data's own units, float64 on the CPU."""
        return x.double().cpu() * self.deviation + self.mean


@final
@dataclass(frozen=True, eq=False)
class Units:
    """What is known of the units of a model's training data.

    Args:
        standardization: what `data.scale: standardize` did; None where values are as they were.
        value_range: lowest and highest training value in the data's own units; None: not known.
        columns: names of the entries of an example, where the data has any.
    """

    standardization: Standardization | None = None
    value_range: tuple[float, float] | None = None
    columns: tuple[str, ...] = ()

    def transform(self, x: Tensor) -> Tensor:
        """Return examples in the data's own units as the model sees them."""
        return x if self.standardization is None else self.standardization.transform(x)

    def inverse_transform(self, x: Tensor) -> Tensor:
        """Return decoded examples in the data's own units."""
        return x if self.standardization is None else self.standardization.inverse_transform(x)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Return black and white: the first of `PIXEL_RANGES` that holds the data, else its own.

        Data that stays below half of 255 is not of 8 bits. Where nothing is known it is [0, 1].
        """
        low, high = self.value_range or PIXEL_RANGES[0]
        for black, white in PIXEL_RANGES:
            slack = ROUND_OFF * (white - black)
            is_within = black - slack <= low and high <= white + slack
            if is_within and (white <= 1 or high > HALF_OF_EIGHT_BITS):
                return black, white
        return (low, high) if low < high else PIXEL_RANGES[0]

    @property
    def is_image_range(self) -> bool:
        """Tell whether black and white are usual ones."""
        return self.pixel_range in PIXEL_RANGES

    def to_unit_interval(self, images: Tensor) -> Tensor:
        """Return images in the data's own units with black as 0 and white as 1."""
        low, high = self.pixel_range
        return images if (low, high) == (0, 1) else (images - low) / (high - low)

    def to_uint8(self, images: np.ndarray) -> np.ndarray:
        """Return images in the data's own units as bytes, clipped at black and white."""
        low, high = self.pixel_range
        scaled = (np.nan_to_num(images, nan=low) - low) / (high - low)
        in_bytes: np.ndarray = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
        return in_bytes
