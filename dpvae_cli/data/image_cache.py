"""Images decoded once into one file of bytes, which every later load maps into memory.

The file is found again by what it was made from: the folder, the names, sizes and times of its
images, and their transform. A change of any of them makes a new file.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple, final

import numpy as np
import torch

from dpvae_cli.data.dataset import SplitName
from dpvae_cli.data.images import (
    ImageArray,
    ImageTransform,
    UnreadableImageError,
    pixel_limit,
    read_image,
)
from dpvae_cli.data.locations import CACHE_VARIABLE, cache_root
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.files import hold_lock, write_atomically, write_json
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.shapes import StoredExamples
from dpvae_cli.foundation.spec import former_name
from dpvae_cli.foundation.text import read_json

FileNames = dict[SplitName, list[str]]
OnError = Annotated[Literal["raise", "skip"], former_name("refuse", "raise")]
FORMAT = 1
BLOCK = 256
NAMED = 20
"""Unreadable files that an error names."""


class DecodedSplit(NamedTuple):
    """The images of one split and their names."""

    stored: StoredExamples
    names: tuple[str, ...]


@final
@dataclass(frozen=True)
class ImageSource:
    """The images of a data set to decode: their names, relative to the folder, by split.

    The cache keeps this order, so that each split is one piece of it.
    """

    name: str
    folder: Path
    parts: Mapping[SplitName, Sequence[str]]
    transform: ImageTransform
    hint: str = "Repair or remove them, or leave them out with data.on_error=skip."
    """What to do about images that cannot be read."""

    @property
    def names(self) -> list[str]:
        """Return all names in order."""
        return [name for part in self.parts.values() for name in part]

    def key(self) -> str:
        """Return a digest of all that decides the pixels, but for the files' contents."""
        folder = self.folder.resolve()
        facts = (FORMAT, os.fsencode(folder), self.transform)
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=12)
        for name in self.names:
            try:
                status = (folder / name).stat()
                size_and_time = (status.st_size, status.st_mtime_ns)
            except OSError:
                size_and_time = (0, 0)
            digest.update(repr((os.fsencode(name), *size_and_time)).encode())
        return digest.hexdigest()


def load_splits(
    source: ImageSource, *, on_error: OnError
) -> tuple[dict[SplitName, DecodedSplit], Mapping[str, str]]:
    """Return the decoded images of each split, mapped from the cache, and what was skipped.

    Images that the cache does not have are decoded in threads: Pillow releases the lock while it
    decodes and resizes, and threads do not start the caller's program again.

    Raises:
        MissingError: files are unreadable and `on_error` is raise, or a split has none left.
        CropError: an image is smaller than the crop.
    """
    path = cache_root() / "pictures" / f"{source.name[:40]}-{source.key()}.npy"
    hint = f"Name another folder with {CACHE_VARIABLE}."
    with hold_lock(path.with_suffix(".lock"), hint=hint):
        if (found := _load(path, source)) is None:
            with pixel_limit(source.transform.max_pixels):
                _decode(path, source, on_error)
            found = _load(path, source)
    assert found is not None
    stored, skipped = found
    _check_skipped(source, skipped, on_error)
    parts: dict[SplitName, DecodedSplit] = {}
    for split, names in source.parts.items():
        readable = tuple(name for name in names if name not in skipped)
        if not readable:
            raise MissingError(f"no readable image is left for the {split} split")
        parts[split] = DecodedSplit(stored[: len(readable)], readable)
        stored = stored[len(readable) :]
    return parts, skipped


def skipped_note(skipped: Mapping[str, str]) -> str | None:
    """Return what a data set's note says of skipped files."""
    if not skipped:
        return None
    return f"{len(skipped):,} unreadable file{'s' if len(skipped) > 1 else ''} left out"


def _load(path: Path, source: ImageSource) -> tuple[StoredExamples, Mapping[str, str]] | None:
    """Return the mapped images and the skipped names; None where they must be made."""
    try:
        skipped = dict(read_json(path.with_suffix(".json"))["skipped"])
        # "c": pages are read when they are needed, and nothing written ever reaches the file
        mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, MemoryError):
        return None
    expected = (len(source.names) - len(skipped), *source.transform.shape)
    if mapped.dtype != np.uint8 or mapped.shape != expected:
        return None
    return torch.from_numpy(mapped), skipped


def _decode(path: Path, source: ImageSource, on_error: OnError) -> None:
    """Write the cache file, and beside it what was skipped."""
    names, skipped = source.names, dict[str, str]()

    def write_header(file: BinaryIO, count: int) -> None:
        header = {"shape": (count, *source.transform.shape), "fortran_order": False, "descr": "|u1"}
        np.lib.format.write_array_header_1_0(file, header)

    def decode(name: str) -> ImageArray | UnreadableImageError:
        try:
            return read_image(source.folder / name, source.transform)
        except UnreadableImageError as error:
            return error

    def write(file: BinaryIO) -> None:
        write_header(file, len(names))
        start = file.tell()
        decode(names[0])  # a crop that is too large shows at once
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(names), BLOCK):  # no more than a block waits in memory
                block = names[first : first + BLOCK]
                for name, image in zip(block, pool.map(decode, block), strict=True):
                    if isinstance(image, UnreadableImageError):
                        skipped[name] = str(image)
                    else:
                        file.write(image.tobytes())
                report_progress(f"decoding {source.name}", first + len(block), len(names))
        _check_skipped(source, skipped, on_error)
        file.seek(0)
        write_header(file, len(names) - len(skipped))
        assert file.tell() == start, "numpy leaves room for any number of rows"
        write_json(path.with_suffix(".json"), {"skipped": skipped})

    write_atomically(path, write)


def _check_skipped(source: ImageSource, skipped: Mapping[str, str], on_error: OnError) -> None:
    """Raise if unreadable files are not allowed, or nothing is left."""
    if not skipped or (on_error == "skip" and len(skipped) < len(source.names)):
        return
    listed = [f"  {name}: {reason}" for name, reason in list(skipped.items())[:NAMED]]
    if len(skipped) > NAMED:
        listed.append(f"  and {len(skipped) - NAMED:,} more")
    raise MissingError(
        f"{len(skipped):,} of {len(source.names):,} images in {source.folder} cannot be read:\n"
        + "\n".join(listed),
        hint=source.hint,
    )
