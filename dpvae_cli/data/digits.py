"""scikit-learn's 8x8 digits: an image experiment that needs no download."""

from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch

from dpvae_cli.data.base import FractionalSplits, binarize_split
from dpvae_cli.data.dataset import SPLITS, Dataset, DatasetSummary, Split
from dpvae_cli.data.images import Binarize, ImageTransform
from dpvae_cli.foundation.randomness import stream

COUNT, LEVELS = 1_797, 16


@final
class Digits(FractionalSplits):
    """1,797 grey digits of 8x8 pixels, split in one fixed random order.

    Their 17 levels, 0 to 16, are spread over 8 bits. Bits per dimension are not reported: they
    would compare 17 levels with 256.
    """

    may_have_labels: ClassVar[bool] = True
    image_format: ClassVar = ImageTransform(None, 8, "grey")

    kind: Literal["digits"] = "digits"
    binarize: Binarize | None = None
    """`threshold` at 1/2, `static` (one fixed draw), `dynamic` (one per batch) or null (grey)."""

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the shares of 1,797."""
        return DatasetSummary.from_slices(self.cut(COUNT))

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the digits that come with scikit-learn."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 - slow, and only digits need it

        bunch = load_digits()
        pixels = np.rint(bunch.images * (255 / LEVELS)).astype(np.uint8)
        images, labels = torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(bunch.target)
        order = torch.randperm(len(images), generator=stream(0, "digits"))
        parts = {name: order[rows] for name, rows in self.cut(len(images)).items()}
        grey = {name: Split(images[rows], labels[rows].long()) for name, rows in parts.items()}
        splits = (binarize_split(grey[name], self.binarize, name) for name in SPLITS)
        return Dataset("digits", *splits)
