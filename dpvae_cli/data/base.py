"""A data set in memory: three explicit splits, stored compactly, prepared batch by batch."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, cast, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data.dataset import Dataset, DatasetSummary, Split, SplitName
from dpvae_cli.data.images import (
    Binarize,
    CropError,
    ImageTransform,
    UnreadableImageError,
    pixel_limit,
    read_image,
)
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import derive_seed
from dpvae_cli.foundation.shapes import (
    StoredExamples,
)
from dpvae_cli.foundation.spec import Spec

Fraction = Annotated[float, Field(gt=0, lt=1)]
BINARIZATION_SEED = 0
CHUNK = 1_000


class DataSpec(Spec, ABC):
    """A recipe's `data` section."""

    kind: str
    knows_manifold: ClassVar[bool] = False
    """Whether distances of examples to the data manifold can be measured."""
    may_have_labels: ClassVar[bool] = False
    may_have_factors: ClassVar[bool] = False
    image_format: ClassVar[ImageTransform | None] = None
    """How image files become examples, but for the section's `binarize`."""

    @property
    def image_transform(self) -> ImageTransform | None:
        """Return how image files become examples; None where examples are not images."""
        binarize: Binarize | None = getattr(self, "binarize", None)
        transform = self.image_format
        return replace(transform, binarize=binarize) if transform and binarize else transform

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return the shape of one example, reading as little as possible."""
        assert self.image_transform is not None, "data without images overrides this method"
        return self.image_transform.shape

    @abstractmethod
    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the sizes of the splits, reading as little as possible and downloading nothing.

        Raises:
            MissingError: the data is not there.
        """

    @abstractmethod
    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Return the data set.

        Args:
            root: folder to look in first (`--data-root`); None looks in `DPVAE_DATA` and the cache.
            download: allow a download where the kind has a source and nothing is found.

        Raises:
            MissingError: the data is not there, or a file is damaged.
        """

    @final
    def load_image(self, path: Path) -> Split:
        """Return an image file as an example, prepared as this data is: a split of one.

        Raises:
            UsageError: the file is not a readable image or smaller than the crop, or examples of
                this kind are not images.
        """
        transform = self.image_transform
        if transform is None:
            raise UsageError(
                f"{path}: with data of kind {self.kind} an image cannot be converted to an example",
                hint="Name an example of the test split by its number.",
            )
        try:
            with pixel_limit(transform.max_pixels):
                image = read_image(path, transform)
        except UnreadableImageError as error:
            raise UsageError(f"{path} cannot be read as an image: {error}") from None
        except CropError as error:
            raise UsageError(
                f"{path} is too small: the square of {error.crop} pixels that this data is cut to "
                f"does not fit into {error.width}x{error.height}",
                hint="Name a larger image.",
            ) from None
        split = Split(torch.from_numpy(image.copy()).unsqueeze(0))
        return binarize_split(split, transform.binarize, "test")


class FractionalSplits(DataSpec, ABC):
    """Data whose splits are fractions of one set of examples."""

    validation: Fraction = 0.1
    """Fraction held out for validation."""
    test: Fraction = 0.1
    """Fraction held out for testing."""

    def cut(self, count: int) -> dict[SplitName, slice]:
        """Return the rows of each split of `count` examples."""
        return hold_out_shares(count, validation=self.validation, test=self.test)


def hold_out(count: int, **sizes: int) -> dict[SplitName, slice]:
    """Cut `count` examples from the end: the named splits in order, `train` keeps the rest.

    Raises:
        UsageError: nothing would be left to train on.
    """
    held = sum(sizes.values())
    if held >= count:
        raise UsageError(f"holding out {held} of {count} examples leaves none to train on")
    ends = np.cumsum([count - held, *sizes.values()]).tolist()
    parts = zip(("train", *sizes), (0, *ends), ends, strict=False)
    return {cast("SplitName", name): slice(start, end) for name, start, end in parts}


def hold_out_shares(count: int, **shares: float) -> dict[SplitName, slice]:
    """Cut `count` examples as `hold_out` does, by shares, at least one example each."""
    return hold_out(count, **{name: max(1, round(share * count)) for name, share in shares.items()})


def binarize_split(split: Split, how: Binarize | None, name: SplitName) -> Split:
    """Return the split as zeros and ones: cut at 1/2, drawn once, or drawn anew in every batch.

    The fixed draws are a function of the example, its place and `name` alone: every run, machine
    and version has the same ones.

    Raises:
        UsageError: values lie outside [0, 1], or all training values would be the same.
    """
    if how is None:
        return split
    values = split.examples()
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise UsageError(
            f"data.binarize needs values in [0, 1], the data has {low:g} to {high:g}",
            hint="Scale the data first: data.scale=unit divides 8-bit images by 255; divide others "
            "by their largest value.",
        )
    zeros_and_ones = values > 0.5 if how == "threshold" else _static_draw(split.stored, name)
    ones = int(zeros_and_ones.sum())
    if name == "train" and ones in (0, zeros_and_ones.numel()):
        raise UsageError(
            f"data.binarize={how} makes every training value {1 if ones else 0}: the data has "
            f"values from {low:g} to {high:g}",
            hint="Scale the data to [0, 1] first. Arrays of 0 and 1 need no data.binarize.",
        )
    fixed = zeros_and_ones.to(torch.uint8) * 255
    grey = split.stored if how == "dynamic" else None
    return Split(fixed, split.labels, grey, split.factors)


def _static_draw(stored: StoredExamples, name: SplitName) -> Tensor:
    """Return one where a uniform draw is below the intensity, else zero.

    Raw words of PCG64 and double-precision arithmetic are the same everywhere; torch guarantees
    its own draws for neither versions nor platforms.
    """
    generator = np.random.PCG64(derive_seed(BINARIZATION_SEED, name))
    drawn = torch.empty(stored.shape, dtype=torch.bool)
    for start in range(0, len(stored), CHUNK):
        values = stored[start : start + CHUNK].cpu().numpy()
        intensities = np.divide(values, 255 if values.dtype == np.uint8 else 1, dtype=np.float64)
        uniform = (generator.random_raw(values.size) >> 11) * 2.0**-53
        drawn[start : start + CHUNK] = torch.from_numpy(uniform.reshape(values.shape) < intensities)
    return drawn
