"""SVHN's cropped digits, read from the official .mat files (paper, section 5)."""

import math
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.data.base import DataSpec, Fraction, hold_out_shares
from dpvae_cli.data.dataset import Dataset, DatasetSummary, Split
from dpvae_cli.data.images import ImageTransform
from dpvae_cli.data.locations import VARIABLE, find_files
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.memory import total_memory_bytes

OFFICIAL = {"train": 73_257, "test": 26_032, "extra": 531_131}


@final
class Svhn(DataSpec):
    """32x32 RGB house-number digits: 73,257 for training and validation, 26,032 for testing."""

    may_have_labels: ClassVar[bool] = True
    image_format: ClassVar = ImageTransform(None, 32, "rgb")

    kind: Literal["svhn"] = "svhn"
    validation: Fraction = 0.1
    """Fraction of train_32x32.mat held out for validation, from its end."""
    extra: bool = False
    """Also train on extra_32x32.mat, 531,131 simpler digits."""

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the images by the files' headers."""
        from scipy.io import whosmat  # noqa: PLC0415 - slow, and only SVHN needs it

        counts: dict[str, int] = {}
        for name, path in self._files(root, download=False).items():
            try:
                shapes = {variable: shape for variable, shape, _ in whosmat(path)}
                counts[name] = int(shapes["X"][-1])
            except Exception as error:  # scipy met with a damaged file raises all kinds of errors
                raise MissingError(f"{path} cannot be read as SVHN's .mat file: {error}") from error
        parts = hold_out_shares(counts["train"], validation=self.validation)
        train = slice(0, parts["train"].stop + counts.get("extra", 0))
        test = slice(0, counts["test"])
        return DatasetSummary.from_slices(parts | {"train": train, "test": test})

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the files; those that are missing are downloaded where it is allowed."""
        splits = {name: _read(path) for name, path in self._files(root, download=download).items()}
        parts = hold_out_shares(len(splits["train"][1]), validation=self.validation)
        train, validation = (
            tuple(tensor[parts[name]] for tensor in splits["train"])
            for name in ("train", "validation")
        )
        if self.extra:
            train = tuple(map(torch.cat, zip(train, splits["extra"], strict=True)))
        differing = [
            f"{name}_32x32.mat has {len(labels):,} images, the official one {OFFICIAL[name]:,}"
            for name, (_, labels) in splits.items()
            if len(labels) != OFFICIAL[name]
        ]
        note = f"not the whole of SVHN ({'; '.join(differing)}): no published number compares"
        return Dataset(
            "svhn",
            train=Split(*train),
            validation=Split(*validation),
            test=Split(*splits["test"]),
            eight_bit=True,
            note=note if differing else None,
        )

    def _files(self, root: Path | None, *, download: bool) -> dict[str, Path]:
        """Return the files by name, downloading what is missing as a last resort."""
        names = ("train", "test", "extra") if self.extra else ("train", "test")
        files = {name: f"{name}_32x32.mat" for name in names}

        def source(file: str) -> tuple[list[str], str]:
            """Return where a file is published, and its checksum."""
            from torchvision.datasets import SVHN  # noqa: PLC0415 - slow, only a download needs it

            url, _, checksum = SVHN.split_list[file.removesuffix("_32x32.mat")]
            return [url], f"md5:{checksum}"

        folder = find_files(
            "svhn",
            list(files.values()),
            root,
            label="SVHN",
            hint=f"Name the files' folder with --data-root or {VARIABLE}, "
            "or leave out --no-download.",
            source=source if download else None,
        )
        return {name: folder / file for name, file in files.items()}


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images `(count, 3, 32, 32)` and labels `(count,)`, 0 to 9."""
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 - slow, and only SVHN needs it

    try:
        for name, shape, _ in whosmat(path):
            if (size := math.prod(map(int, shape))) > total_memory_bytes():
                raise ValueError(  # noqa: TRY301 - reported as scipy's own errors are
                    f"{name} would unpack into {size:,} numbers, more than all memory"
                )
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
