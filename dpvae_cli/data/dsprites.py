"""dSprites, the published sprites with known factors, read from the user's own file.

Source: Matthey, Higgins, Hassabis and Lerchner 2017.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from dpvae_cli.data.base import FractionalSplits
from dpvae_cli.data.dataset import Dataset, DatasetSummary, GenerativeFactor
from dpvae_cli.data.images import ImageTransform
from dpvae_cli.data.locations import VARIABLE, find_files
from dpvae_cli.data.sprites import shuffle_order, split_factorial
from dpvae_cli.foundation.array_files import DAMAGED, read_arrays, read_headers
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.shapes import FactorValues, StoredExamples

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
SIDE, OFFICIAL = 64, 737_280
FACTORS = (
    GenerativeFactor("color", is_ordered=False),
    GenerativeFactor("shape", is_ordered=False),
    GenerativeFactor("scale", is_ordered=True),
    GenerativeFactor("orientation", is_ordered=True),
    GenerativeFactor("x", is_ordered=True),
    GenerativeFactor("y", is_ordered=True),
)
SHAPE = 1
CLASSES = "latents_classes"
BLOCK = 4_096
"""Images that are unpacked together."""
UNREADABLE = (OSError, ValueError, *DAMAGED)


@final
class Dsprites(FractionalSplits):
    """64x64 images of zeros and ones with color, shape, scale, orientation, x and y.

    All 737,280 take 3 GB of memory, so a part is drawn from them, once and for all. The file is
    never downloaded. The label is the shape.
    """

    may_have_labels: ClassVar[bool] = True
    may_have_factors: ClassVar[bool] = True
    image_format: ClassVar[ImageTransform] = ImageTransform(
        None, SIDE, "grey", binarize="threshold"
    )

    kind: Literal["dsprites"] = "dsprites"
    images: Annotated[int, Field(ge=3)] | None = 50_000
    """Images drawn from the file and kept in memory, 4 KB each; null keeps all (3 GB)."""

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the shares of the images that are drawn from the file."""
        path = _find(root)
        try:
            count = read_headers(path)[CLASSES].shape[0]
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        return DatasetSummary.from_slices(self.cut(min(self.images or count, count)))

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Unpack the file block by block and keep what was drawn; nothing in it can execute."""
        path = _find(root)
        try:
            images, factors, count = _read(path, self.images)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        splits = split_factorial(images, factors, self.cut(len(images)), label=SHAPE)
        note = None
        if (size := len(images)) != OFFICIAL:
            note = f"{size:,} " + (f"of the {count:,} " if size < count else "")
            note += "images of dSprites, drawn at random"
            note += "" if count == OFFICIAL else f", of a file that should have {OFFICIAL:,}"
        return Dataset("dsprites", *splits, factors=FACTORS, note=note)


def _unreadable(path: Path, error: Exception) -> MissingError:
    return MissingError(
        f"{path} cannot be read as dSprites: {error}", hint=f"Fetch {FILE} again from its authors."
    )


def _find(root: Path | None) -> Path:
    hint = (
        "Put it (from its authors' repository dsprites-dataset) into {folder}, or name its folder "
        f"with --data-root or {VARIABLE}; dpvae does not download it. "
        "Sprites of our own need no file: data=sprites."
    )
    return find_files("dsprites", [FILE], root, label="dSprites", hint=hint) / FILE


def _read(path: Path, wanted: int | None) -> tuple[StoredExamples, FactorValues, int]:
    """Return images and factors in `shuffle_order`, and how many the file has."""
    factors = read_arrays(path, [CLASSES])[CLASSES]  # not the pickled `metadata`
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS) or factors.dtype.kind not in "ui":
        raise ValueError(f"{CLASSES} has shape {factors.shape} and type {factors.dtype}")
    if (count := len(factors)) < 3:
        raise ValueError(f"it holds {count} images")
    order = shuffle_order(count)[: wanted or count]
    # unpack a block at a time and keep the rows of `order`, in its order, ones as 255
    images = np.empty((len(order), 1, SIDE, SIDE), np.uint8)
    place = np.full(count, -1)
    place[order] = np.arange(len(order))
    with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"imgs is of .npy version {version}")
        read: Callable[[Any], tuple[tuple[int, ...], bool, np.dtype]]
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, by_column, dtype = read(member)
        if shape != (count, SIDE, SIDE) or dtype != np.uint8 or by_column:
            raise ValueError(
                f"imgs has shape {shape} and type {dtype}, not {(count, SIDE, SIDE)} of uint8"
            )
        for start in range(0, count, BLOCK):
            targets = place[start : start + BLOCK]
            size = len(targets) * SIDE * SIDE
            values = np.frombuffer(member.read(size), np.uint8)
            if values.size != size:
                raise EOFError("imgs ends early")
            if values.max(initial=0) > 1:
                raise ValueError("imgs has values other than 0 and 1")
            rows = values.reshape(-1, 1, SIDE, SIDE)[targets >= 0]
            images[targets[targets >= 0]] = rows * np.uint8(255)
            report_progress("unpacking dsprites", min(start + BLOCK, count), count)
    return torch.from_numpy(images), torch.from_numpy(factors[order].astype(np.int64)), count
