"""dSprites, the published sprites with known factors, read from the user's own file.

Source: Matthey, Higgins, Hassabis and Lerchner 2017.
"""

import zipfile
from pathlib import Path
from typing import IO, Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from dpvae_cli.data.base import (
    Dataset,
    DatasetSummary,
    DataSpec,
    Fraction,
    GenerativeFactor,
    Split,
    binarize_split,
    hold_out_shares,
)
from dpvae_cli.data.factors import shuffle_order, split_factorial
from dpvae_cli.data.images import ImageTransform, load_single_image
from dpvae_cli.data.locations import VARIABLE, candidate_folders, first_folder_with
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
class Dsprites(DataSpec):
    """64x64 images of zeros and ones with color, shape, scale, orientation, x and y.

    All 737,280 take 3 GB of memory, so a part is drawn from them, once and for all. The file is
    never downloaded. The label is the shape.
    """

    may_have_labels: ClassVar[bool] = True
    may_have_factors: ClassVar[bool] = True

    kind: Literal["dsprites"] = "dsprites"
    images: Annotated[int, Field(ge=3)] | None = 50_000
    """Images drawn from the file and kept in memory, 4 KB each; null keeps all (3 GB)."""
    validation: Fraction = 0.1
    """Share of them held out for validation."""
    test: Fraction = 0.1
    """Share of them held out for testing."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (1, 64, 64)."""
        return (1, SIDE, SIDE)

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the shares of the images that are drawn from the file."""
        path = _find(root)
        try:
            shape = read_headers(path)[CLASSES].shape
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        count = min(self.images or shape[0], shape[0])
        return DatasetSummary.from_slices(
            hold_out_shares(count, validation=self.validation, test=self.test)
        )

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Unpack the file block by block and keep what was drawn; nothing in it can execute."""
        path = _find(root)
        try:
            images, factors, count = _read(path, self.images)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        splits = split_factorial(
            images, factors, validation=self.validation, test=self.test, label=SHAPE
        )
        return Dataset(
            "dsprites",
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            factors=FACTORS,
            note=_note(len(images), count),
        )

    def load_image(self, path: Path) -> Split:
        """Return the image's centre square in grey, resized to 64x64, cut at 1/2."""
        grey = load_single_image(path, ImageTransform(None, SIDE, "grey"))
        return binarize_split(grey, "threshold", "test")


def _unreadable(path: Path, error: Exception) -> MissingError:
    return MissingError(
        f"{path} cannot be read as dSprites: {error}",
        hint=f"Fetch {FILE} again from its authors.",
    )


def _find(root: Path | None) -> Path:
    tried = candidate_folders("dsprites", root)
    folder = first_folder_with(tried, [FILE])
    if folder is None:
        raise MissingError(
            f"dSprites: {FILE} was not found; looked in " + " and ".join(map(str, tried)),
            hint=f"Put it (from its authors' repository dsprites-dataset) into {tried[0]}, or name "
            f"its folder with --data-root or {VARIABLE}; dpvae does not download it. "
            "Sprites of our own need no file: data=sprites.",
        )
    return folder / FILE


def _read(path: Path, wanted: int | None) -> tuple[StoredExamples, FactorValues, int]:
    """Return images and factors in `shuffle_order`, and how many the file has."""
    factors = _factors(path)  # the pickled `metadata` in the file is not read
    count = len(factors)
    order = shuffle_order(count)[: wanted or count]
    with zipfile.ZipFile(path) as archive:
        images = _images(archive, count, order)
    return images, torch.from_numpy(factors[order].astype(np.int64)), count


def _factors(path: Path) -> np.ndarray:
    found = read_arrays(path, [CLASSES])[CLASSES]
    if found.ndim != 2 or found.shape[1] != len(FACTORS) or found.dtype.kind not in "ui":
        raise ValueError(f"latents_classes has shape {found.shape} and type {found.dtype}")
    if len(found) < 3:
        raise ValueError(f"it holds {len(found)} images")
    return found


def _images(archive: zipfile.ZipFile, count: int, order: np.ndarray) -> StoredExamples:
    """Unpack a block at a time and keep the rows of `order`, in its order, ones as 255."""
    kept = np.empty((len(order), 1, SIDE, SIDE), np.uint8)
    place = np.full(count, -1)
    place[order] = np.arange(len(order))
    with archive.open("imgs.npy") as member:
        _check_header(member, count)
        for start in range(0, count, BLOCK):
            targets = place[start : start + BLOCK]
            size = len(targets) * SIDE * SIDE
            values = np.frombuffer(member.read(size), np.uint8)
            if values.size != size:
                raise EOFError("imgs ends early")
            if values.max(initial=0) > 1:
                raise ValueError("imgs has values other than 0 and 1")
            rows = values.reshape(-1, 1, SIDE, SIDE)[targets >= 0]
            kept[targets[targets >= 0]] = rows * np.uint8(255)
            report_progress("unpacking dsprites", min(start + BLOCK, count), count)
    return torch.from_numpy(kept)


def _check_header(member: IO[bytes] | zipfile.ZipExtFile, count: int) -> None:
    """Read the .npy's header up to where the values begin.

    Raises:
        ValueError: the values are not images of bytes, one after another.
    """
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"imgs is of .npy version {version}")
    shape, by_column, dtype = read[version](member)
    if shape != (count, SIDE, SIDE) or dtype != np.uint8 or by_column:
        raise ValueError(
            f"imgs has shape {shape} and type {dtype}, not {(count, SIDE, SIDE)} of uint8"
        )


def _note(kept: int, count: int) -> str | None:
    """Name a part as such."""
    if kept == OFFICIAL:
        return None
    shares = f"{kept:,} of the {count:,} images" if kept < count else f"{kept:,} images"
    official = "" if count == OFFICIAL else f", of a file that should have {OFFICIAL:,}"
    return f"{shares} of dSprites, drawn at random{official}"
