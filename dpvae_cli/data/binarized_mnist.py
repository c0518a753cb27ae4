"""Larochelle's fixed binarisation of MNIST, which published likelihoods of static MNIST are of."""

from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch

from dpvae_cli.data.base import DataSpec
from dpvae_cli.data.dataset import SPLITS, Dataset, DatasetSummary, Split, SplitName
from dpvae_cli.data.images import ImageTransform
from dpvae_cli.data.locations import VARIABLE, find_files
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.shapes import StoredExamples

KIND = "binarized_mnist"
FILES: dict[SplitName, str] = {
    "train": f"{KIND}_train.amat",
    "validation": f"{KIND}_valid.amat",
    "test": f"{KIND}_test.amat",
}
IMAGES: dict[SplitName, int] = {"train": 50_000, "validation": 10_000, "test": 10_000}
PIXELS = 28 * 28
LONGEST = 2**16
"""Bytes of a line that are read at once; a line of ours has some 1,600."""
SOURCE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
NOTE = "the published zeros and ones of static MNIST: likelihoods compare with published ones"


@final
class BinarizedMnist(DataSpec):
    """Static MNIST: 50,000 + 10,000 + 10,000 images of zeros and ones, from your own files.

    binarized_mnist_train.amat, _valid.amat and _test.amat are text, 784 zeros and ones a line.
    They are never downloaded, and there are no labels.
    """

    image_format: ClassVar = ImageTransform(None, 28, "grey", binarize="static")

    kind: Literal["binarized_mnist"] = "binarized_mnist"

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return 50,000, 10,000 and 10,000, where the files are there."""
        _find(root)
        return DatasetSummary(IMAGES)

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the three files from one folder."""
        folder = _find(root)
        return Dataset(
            KIND,
            *(Split(_read(folder / FILES[name], IMAGES[name])) for name in SPLITS),
            note=NOTE,
        )


def _find(root: Path | None) -> Path:
    """Return the folder with the files: the first that has any of them."""
    hint = (
        f"Put {', '.join(FILES.values())} (from {SOURCE}) into {{folder}}, or name another "
        f"folder with --data-root or {VARIABLE}; dpvae does not download them. "
        "A draw of our own: data='{{kind: mnist, binarize: static}}'."
    )
    return find_files(KIND, list(FILES.values()), root, label="binarised MNIST", hint=hint)


def _read(path: Path, images: int) -> StoredExamples:
    """Return the images of one file, `(images, 1, 28, 28)`, ones as 255."""
    rows = bytearray()
    number = 0
    try:
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(LONGEST), b"")
            for number, line in enumerate(lines, start=1):
                if number > images:
                    raise _wrong(path, number, f"there are more than {images:,} lines")
                words = line.split()
                if len(words) != PIXELS:
                    raise _wrong(path, number, f"{len(words)} columns, an image has {PIXELS}")
                digits = b"".join(words)
                if len(digits) != PIXELS or digits.translate(None, b"01"):
                    column, word = next(
                        (c, w) for c, w in enumerate(words, 1) if w not in (b"0", b"1")
                    )
                    text = word[:20].decode("ascii", "replace")
                    problem = f"{text!r} in column {column} is neither 0 nor 1"
                    raise _wrong(path, number, problem)
                rows += digits
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}") from None
    if number < images:
        raise _wrong(path, number, f"the file ends after {number:,} of {images:,} lines")
    values = (np.frombuffer(rows, np.uint8) - ord("0")) * np.uint8(255)
    return torch.from_numpy(values.reshape(images, 1, 28, 28))


def _wrong(path: Path, number: int, what: str) -> MissingError:
    return MissingError(f"{path}:{number}: {what}", hint=f"Fetch the file again from {SOURCE}")
