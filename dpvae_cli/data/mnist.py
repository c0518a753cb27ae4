"""MNIST, read from torchvision's on-disk layout, packed or not (paper, section 5)."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data.base import DataSpec, binarize_split, hold_out
from dpvae_cli.data.dataset import Dataset, DatasetSummary, Split
from dpvae_cli.data.images import Binarize, ImageTransform
from dpvae_cli.data.locations import VARIABLE, find_files
from dpvae_cli.foundation.errors import MissingError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 0x08
LARGEST = 2**29
"""Bytes of a file, unpacked; MNIST's largest has 47 million."""
ELSEWHERE = "published likelihoods of static MNIST are of other zeros and ones (binarized_mnist)"
NOTES = {
    "threshold": f"digits cut at 1/2: {ELSEWHERE}",
    "static": f"digits binarised by a draw of our own: {ELSEWHERE}",
    "dynamic": f"digits drawn anew for each training batch, fixed for evaluation: {ELSEWHERE}",
}
"""Why likelihoods of binarised digits compare among themselves alone."""


@final
class Mnist(DataSpec):
    """28x28 grey digits in [0, 1]: 60,000 for training and validation, 10,000 for testing."""

    may_have_labels: ClassVar[bool] = True
    image_format: ClassVar = ImageTransform(None, 28, "grey")

    kind: Literal["mnist"] = "mnist"
    validation: Annotated[int, Field(ge=1)] = 5_000
    """Images held out for validation, from the end of the training file."""
    binarize: Binarize | None = None
    """`threshold` at 1/2, `static` (one fixed draw), `dynamic` (one per batch) or null (grey)."""

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the labels."""
        folder = _find(root, download=False)
        count, test = (len(_read_idx(folder / FILES[name][1])) for name in ("train", "test"))
        parts = hold_out(count, validation=self.validation)
        return DatasetSummary.from_slices(parts | {"test": slice(0, test)})

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the four files; those that are missing are downloaded where it is allowed."""
        folder = _find(root, download=download)
        images, labels = _read_pair(folder, "train")
        parts = hold_out(len(images), validation=self.validation)
        test_images, test_labels = _read_pair(folder, "test")
        # drawn before it is cut, so that an image's pixels do not depend on where the cut is
        whole = binarize_split(Split(images, labels), self.binarize, "train")
        return Dataset(
            "mnist",
            train=whole.subset(parts["train"]),
            validation=whole.subset(parts["validation"]),
            test=binarize_split(Split(test_images, test_labels), self.binarize, "test"),
            eight_bit=self.binarize is None,
            note=None if self.binarize is None else NOTES[self.binarize],
        )


def _find(root: Path | None, *, download: bool) -> Path:
    """Return the folder with the raw files, downloading what is missing as a last resort."""

    def source(name: str) -> tuple[list[str], str]:
        """Return where a packed file is published, and its checksum."""
        from torchvision.datasets import MNIST  # noqa: PLC0415 - slow, only a download needs it

        packed = f"{name}.gz"
        checksum = f"md5:{dict(MNIST.resources)[packed]}"
        return [f"{mirror}{packed}" for mirror in MNIST.mirrors], checksum

    return find_files(
        "mnist",
        FILES["train"] + FILES["test"],
        root,
        label="MNIST",
        hint=f"Name the folder above MNIST/raw with --data-root or {VARIABLE}, "
        "or leave out --no-download.",
        subfolder="MNIST/raw",
        packed=".gz",
        source=source if download else None,
    )


def _read_pair(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """Return images `(count, 1, 28, 28)` and labels `(count,)` of one file pair."""
    images, labels = (_read_idx(folder / file) for file in FILES[name])
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise MissingError(
            f"{folder / FILES[name][0]} holds {tuple(images.shape)} values and its label file "
            f"{tuple(labels.shape)}; MNIST has (count, 28, 28) and (count,)"
        )
    if bool((labels > 9).any()):
        raise MissingError(f"{folder / FILES[name][1]} has labels beyond 9")
    return images.unsqueeze(1), labels.long()


def _read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes: magic (0, 0, 8, rank), the sizes, the values."""
    packed = path.with_name(f"{path.name}.gz")
    file = path if path.is_file() else packed
    try:
        with gzip.open(file) if file is packed else file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MissingError(f"{file} cannot be read: {error}") from None
    if len(content) > LARGEST:
        raise MissingError(f"{file} unpacks into more than {LARGEST:,} bytes: not MNIST")
    rank = content[3] if len(content) >= 4 else 0
    if content[:3] != bytes([0, 0, UNSIGNED_BYTE]) or len(content) < 4 + 4 * rank:
        raise MissingError(f"{file} is not an IDX file of unsigned bytes (wrong magic number)")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != np.prod(shape, dtype=np.int64):
        raise MissingError(f"{file} is damaged: {values.size} values, its header says {shape}")
    return torch.from_numpy(values.reshape(shape).copy())
