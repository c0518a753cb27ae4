"""Sprites with known factors: white shapes on black that are drawn here and read from nowhere.

The kind of data that Higgins et al. (2017) measure disentanglement on; shapes, sizes and drawing
are our own.
"""

from collections.abc import Callable, Mapping, Sequence
from math import pi, prod
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from dpvae_cli.data.base import FractionalSplits
from dpvae_cli.data.dataset import (
    SPLITS,
    Dataset,
    DatasetSummary,
    GenerativeFactor,
    Split,
    SplitName,
)
from dpvae_cli.data.images import ImageTransform
from dpvae_cli.foundation.shapes import FactorValues, StoredExamples

SIDE = 64
FACTORS = (
    GenerativeFactor("shape", is_ordered=False),
    GenerativeFactor("scale", is_ordered=True),
    GenerativeFactor("orientation", is_ordered=True),
    GenerativeFactor("x", is_ordered=True),
    GenerativeFactor("y", is_ordered=True),
)
SMALLEST, LARGEST = 6.0, 12.0
"""Half the side of the smallest and of the largest square, pixels."""
FIRST, LAST = 18, 46
"""Where the centres of the outermost sprites are, pixels."""
WIDEST = 29
"""Positions in a row: as many as there are pixels from the first to the last."""
REACH = 18
"""No sprite reaches farther from its centre, pixels."""

Positions = Annotated[int, Field(ge=1, le=WIDEST)]


@final
class Sprites(FractionalSplits):
    """64x64 images of a white shape on black: every combination of five factors, once.

    Shape (square, ellipse, heart), scale, orientation (0 to 90 degrees, 90 left out, so that no
    shape comes to lie on itself), x and y, evenly spaced; the numbers of their values are fields.
    Nothing is read. The combinations are split in one fixed random order. The label
    is the shape.
    """

    may_have_labels: ClassVar[bool] = True
    may_have_factors: ClassVar[bool] = True
    image_format: ClassVar[ImageTransform] = ImageTransform(
        None, SIDE, "grey", binarize="threshold"
    )

    kind: Literal["sprites"] = "sprites"
    shape: Annotated[int, Field(ge=1, le=3)] = 3
    """How many shapes, of square, ellipse and heart in this order."""
    scale: Annotated[int, Field(ge=1, le=12)] = 6
    """How many sizes; the largest is twice the smallest."""
    orientation: Annotated[int, Field(ge=1, le=20)] = 10
    """How many angles, from 0 degrees up to but not 90."""
    x: Positions = 16
    """How many places from left to right, whole pixels apart."""
    y: Positions = 16
    """How many places from top to bottom, whole pixels apart."""

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the shares of all combinations."""
        return DatasetSummary.from_slices(self.cut(prod(self.sizes().values())))

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Draw every combination; nothing is read."""
        every = factor_combinations(tuple(self.sizes().values()))
        factors = every[torch.from_numpy(shuffle_order(len(every)))]
        images = render_sprites(factors.numpy(), self.sizes())
        splits = split_factorial(images, factors, self.cut(len(images)), label=0)
        return Dataset("sprites", *splits, factors=FACTORS)

    def sizes(self) -> dict[str, int]:
        """Return the number of values of each factor."""
        return {factor.name: int(getattr(self, factor.name)) for factor in FACTORS}


def render_sprites(factors: np.ndarray, sizes: dict[str, int]) -> StoredExamples:
    """Draw sprites, `(count, 1, 64, 64)`: a pixel is 255 where its centre lies in the shape.

    A sprite is drawn once for each shape, scale and orientation and copied to its places: centres
    are whole pixels, so a step in x or y moves the image and changes nothing else. Factors are
    `(count, 5)`, from 0; `sizes` is how many values each has.
    """
    line = np.arange(-REACH, REACH) + 0.5  # a stamp is centred on a corner of pixels
    down, right = np.meshgrid(line, line, indexing="ij")
    angles = pi / 2 * np.arange(sizes["orientation"]) / sizes["orientation"]
    radii = np.linspace(SMALLEST, LARGEST, sizes["scale"]) if sizes["scale"] > 1 else [LARGEST]
    stamps = np.zeros((sizes["shape"], len(radii), len(angles), 2 * REACH, 2 * REACH), np.uint8)
    for s, r, a in np.ndindex(stamps.shape[:3]):
        cosine, sine = np.cos(angles[a]) / radii[r], np.sin(angles[a]) / radii[r]
        # where pixels lie in the shape's own coordinates, its half side 1
        u, v = cosine * right + sine * -down, cosine * -down - sine * right
        stamps[s, r, a] = SHAPES[s](u, v) * np.uint8(255)
    corners = []
    for count in (sizes["x"], sizes["y"]):
        ends = (FIRST, LAST) if count > 1 else (SIDE // 2, SIDE // 2)  # one place is in the middle
        corners.append(np.rint(np.linspace(*ends, count)).astype(int) - REACH)
    left, top = corners
    images = np.zeros((len(factors), 1, SIDE, SIDE), np.uint8)
    across = 2 * REACH
    for image, (shape, scale, orientation, x, y) in zip(images[:, 0], factors, strict=True):
        rows, columns = (slice(a, a + across) for a in (top[y], left[x]))
        image[rows, columns] = stamps[shape, scale, orientation]
    return torch.from_numpy(images)


def factor_combinations(sizes: Sequence[int]) -> FactorValues:
    """Return all combinations of values from 0, `(product of sizes, factors)`, the last fastest."""
    places = np.unravel_index(np.arange(prod(sizes)), tuple(sizes))
    return torch.from_numpy(np.stack(places, axis=1).astype(np.int64))


def shuffle_order(count: int) -> np.ndarray:
    """Return the fixed order in which examples are split, the same on every machine.

    numpy keeps the draws of `RandomState` for good.
    """
    return np.random.RandomState(0).permutation(count)


def split_factorial(
    images: StoredExamples, factors: FactorValues, cut: Mapping[SplitName, slice], *, label: int
) -> list[Split]:
    """Return the rows `cut` of images with their factors, one of which is the label too."""
    return [
        Split(images[rows], factors[rows, label], factors=factors[rows])
        for rows in (cut[name] for name in SPLITS)
    ]


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Join two half circles to a tip below: v is between |u|'s arch and a straight side."""
    a = np.abs(u) / 1.25
    arch = 0.35 + 0.65 * np.sqrt(np.clip(1 - (2 * a - 1) ** 2, 0, None))
    return np.asarray((a <= 1) & (v <= arch) & (v >= 1.6 * a - 1.25))


SHAPES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 1,  # square
    # ellipse of half axes 1.4 and 0.8: as wide as a square's diagonal, and narrower
    lambda u, v: (u / 1.4) ** 2 + (v / 0.8) ** 2 <= 1,
    _heart,
)
