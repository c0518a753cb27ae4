"""Noise with the shapes and counts of the paper's data, so that nothing has to be downloaded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from dpvae_cli.data import Dataset, Split
from dpvae_cli.data.folder import Folder
from dpvae_cli.data.locations import CACHE_VARIABLE

MNIST, HELD_OUT = 60_000, 1_000


def images(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Return 8-bit noise, `(count, channels, height, width)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def dataset(count: int, *shape: int) -> Dataset:
    """Return noise as a data set with `count` training images."""
    held_out = Split(images(min(count, HELD_OUT), *shape, seed=1))
    train = Split(images(count, *shape))
    return Dataset("noise", train=train, validation=held_out, test=held_out, eight_bit=True)


def mnist(count: int = MNIST) -> Dataset:
    """Return noise with MNIST's shape and count."""
    return dataset(count, 1, 28, 28)


@contextmanager
def faces(count: int) -> Iterator[Dataset]:
    """Yield 64x64 RGB images from the memory-mapped cache of a decoded folder."""
    with TemporaryDirectory() as name, _cache_in(Path(name)):
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number, pixels in enumerate(images(count, 64, 64, 3).numpy()):
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number:06d}.bmp")
        yield Folder(path=str(folder), size=64).load()


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before
