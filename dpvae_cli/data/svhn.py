"""SVHN's cropped digits, read from the official .mat files (paper, section 5)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.data.base import Dataset, DatasetSummary, DataSpec, Fraction, Split, hold_out_shares
from dpvae_cli.data.images import ImageTransform, load_single_image
from dpvae_cli.data.locations import VARIABLE, candidate_folders, first_folder_with
from dpvae_cli.foundation import download as downloads
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.memory import total_memory_bytes

OFFICIAL = {"train": 73_257, "test": 26_032, "extra": 531_131}


@final
class Svhn(DataSpec):
    """32x32 RGB house-number digits: 73,257 for training and validation, 26,032 for testing."""

    may_have_labels: ClassVar[bool] = True

    kind: Literal["svhn"] = "svhn"
    validation: Fraction = 0.1
    """Share of train_32x32.mat held out for validation, from its end."""
    extra: bool = False
    """Also train on extra_32x32.mat, 531,131 simpler digits."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (3, 32, 32)."""
        return (3, 32, 32)

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the images by the files' headers."""
        folder = _find(root, self._needed(), download=False)
        counts = {name: _count(folder / _file(name)) for name in self._needed()}
        parts = hold_out_shares(counts["train"], validation=self.validation)
        train = slice(0, parts["train"].stop + counts.get("extra", 0))
        return DatasetSummary.from_slices(
            parts | {"train": train, "test": slice(0, counts["test"])}
        )

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the files; those that are missing are downloaded where it is allowed."""
        folder = _find(root, self._needed(), download=download)
        read = {name: _read(folder / _file(name)) for name in self._needed()}
        images, labels = read["train"]
        parts = hold_out_shares(len(images), validation=self.validation)
        splits = {name: Split(images[part], labels[part]) for name, part in parts.items()}
        train = splits["train"]
        if self.extra:
            train = _joined(train, Split(*read["extra"]))
        return Dataset(
            "svhn",
            train=train,
            validation=splits["validation"],
            test=Split(*read["test"]),
            eight_bit=True,
            note=_note({name: len(pair[0]) for name, pair in read.items()}),
        )

    def load_image(self, path: Path) -> Split:
        """Return the image's centre square in colour, resized to 32x32."""
        return load_single_image(path, ImageTransform(None, 32, "rgb"))

    def _needed(self) -> tuple[str, ...]:
        return ("train", "test", "extra") if self.extra else ("train", "test")


def _file(name: str) -> str:
    return f"{name}_32x32.mat"


def _joined(one: Split, other: Split) -> Split:
    assert one.labels is not None
    assert other.labels is not None
    labels = torch.cat([one.labels, other.labels])
    return Split(torch.cat([one.stored, other.stored]), labels)


def _note(counts: dict[str, int]) -> str | None:
    """Name a subset as such."""
    differing = [
        f"{_file(name)} has {count:,} images, the official one {OFFICIAL[name]:,}"
        for name, count in counts.items()
        if count != OFFICIAL[name]
    ]
    if not differing:
        return None
    return f"not the whole of SVHN ({'; '.join(differing)}): no published number compares"


def _find(root: Path | None, needed: tuple[str, ...], *, download: bool) -> Path:
    """Return the folder with the files, downloading what is missing as a last resort."""
    tried = candidate_folders("svhn", root)
    there = first_folder_with(tried, map(_file, needed))
    folder = there or tried[0]
    missing = [name for name in needed if not (folder / _file(name)).is_file()]
    if missing and not download:
        raise MissingError(
            f"SVHN: {', '.join(map(_file, missing))} not found; looked in "
            + " and ".join(map(str, [there] if there else tried)),
            hint=f"Name the files' folder with --data-root or {VARIABLE}, "
            "or leave out --no-download.",
        )
    for name in missing:
        _download(folder, name)
    return folder


def _download(folder: Path, name: str) -> None:
    """Download a file with its checksum tested; it is there whole or not at all."""
    from torchvision.datasets import SVHN  # noqa: PLC0415 - slow, only a download needs it

    url, file, checksum = SVHN.split_list[name]
    try:
        downloads.download([url], folder / file, checksum=f"md5:{checksum}")
    except OSError as error:
        raise MissingError(
            f"SVHN: {file} is not in {folder} and could not be downloaded: {error}",
            hint="Start again to go on with what has arrived, or "
            f"put {url} there, or name another folder with --data-root or {VARIABLE}.",
        ) from None


def _count(path: Path) -> int:
    """Return how many images a file holds, by its header."""
    from scipy.io import whosmat  # noqa: PLC0415 - slow, and only SVHN needs it

    try:
        return int({name: shape for name, shape, _ in whosmat(path)}["X"][-1])
    except Exception as error:  # scipy met with a damaged file raises all kinds of errors
        raise MissingError(f"{path} cannot be read as SVHN's .mat file: {error}") from error


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images `(count, 3, 32, 32)` and labels `(count,)`, 0 to 9."""
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 - slow, and only SVHN needs it

    try:
        _check_unpacked_sizes(whosmat(path))
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
    except Exception as error:  # scipy met with a damaged file raises all kinds of errors
        raise MissingError(f"{path} cannot be read as SVHN's .mat file: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise MissingError(
            f"{path} holds X of shape {images.shape} and type {images.dtype}; "
            "SVHN has (32, 32, 3, count) of uint8"
        )
    if len(labels) != images.shape[3] or len(labels) == 0:
        raise MissingError(f"{path} holds {images.shape[3]} images and {len(labels)} labels")
    if labels.dtype.kind not in "uif" or not np.isin(labels, range(1, 11)).all():
        raise MissingError(f"{path} has labels other than 1 to 10")
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    # the files write the digit zero as 10
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64) % 10)


def _check_unpacked_sizes(variables: Sequence[tuple[str, Sequence[int], str]]) -> None:
    """Refuse by their headers arrays that would unpack into more than all memory.

    Raises:
        ValueError: one would.
    """
    for name, shape, _ in variables:
        if (size := math.prod(map(int, shape))) > total_memory_bytes():
            raise ValueError(f"{name} would unpack into {size:,} numbers, more than all memory")
