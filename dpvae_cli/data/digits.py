"""scikit-learn's 8x8 digits: an image experiment that needs no download."""

from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch

from dpvae_cli.data.base import (
    Binarize,
    Dataset,
    DatasetSummary,
    DataSpec,
    Fraction,
    Split,
    binarize_split,
    hold_out_shares,
)
from dpvae_cli.data.images import ImageTransform, load_single_image
from dpvae_cli.foundation.randomness import stream

COUNT, LEVELS = 1_797, 16


@final
class Digits(DataSpec):
    """1,797 grey digits of 8x8 pixels, split in one fixed random order.

    Their 17 levels, 0 to 16, are spread over 8 bits. Bits per dimension are not reported: they
    would compare 17 levels with 256.
    """

    may_have_labels: ClassVar[bool] = True

    kind: Literal["digits"] = "digits"
    validation: Fraction = 0.1
    """Share held out for validation."""
    test: Fraction = 0.1
    """Share held out for testing."""
    binarize: Binarize | None = None
    """`threshold` at 1/2, `static` (one fixed draw), `dynamic` (a draw a batch) or null (grey)."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (1, 8, 8)."""
        return (1, 8, 8)

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the shares of 1,797."""
        return DatasetSummary.from_slices(
            hold_out_shares(COUNT, validation=self.validation, test=self.test)
        )

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the digits that come with scikit-learn."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 - slow, and only digits need it

        bunch = load_digits()
        pixels = np.rint(bunch.images * (255 / LEVELS)).astype(np.uint8)
        images, labels = torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(bunch.target)
        order = torch.randperm(len(images), generator=stream(0, "digits"))
        cut = hold_out_shares(len(images), validation=self.validation, test=self.test)
        parts = {name: order[part] for name, part in cut.items()}
        splits = {name: Split(images[rows], labels[rows].long()) for name, rows in parts.items()}
        return Dataset(
            "digits",
            train=binarize_split(splits["train"], self.binarize, "train"),
            validation=binarize_split(splits["validation"], self.binarize, "validation"),
            test=binarize_split(splits["test"], self.binarize, "test"),
        )

    def load_image(self, path: Path) -> Split:
        """Return the image's centre square in grey, resized to 8x8 and binarised alike."""
        return binarize_split(
            load_single_image(path, ImageTransform(None, 8, "grey")), self.binarize, "test"
        )
