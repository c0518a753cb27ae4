"""Pictures decoded once into one file of bytes, which every later load maps into memory.

The file is found again by what it was made from: the folder, the names, sizes and times of its
pictures, and their preparation. A change of any of them makes a new file.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, final

import numpy as np
import torch
from filelock import FileLock

from dpvae_cli.data.base import SplitName
from dpvae_cli.data.locations import CACHE_VARIABLE, cache_root
from dpvae_cli.data.pictures import (
    Preparation,
    Square,
    UnreadableError,
    pixel_limit,
    read_picture,
)
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.files import remove_leftovers, write_atomically, write_json
from dpvae_cli.foundation.progress import tell
from dpvae_cli.foundation.shapes import Stored
from dpvae_cli.foundation.strangers import read_json

OnError = Literal["refuse", "skip"]
FORMAT = 1
BLOCK = 256
NAMED = 20
"""So many unreadable files are named in an error."""


@final
@dataclass(frozen=True)
class Part:
    """The pictures of one split and their names."""

    stored: Stored
    names: tuple[str, ...]


@final
@dataclass(frozen=True)
class Source:
    """Pictures to decode.

    Args:
        name: of the data set, for messages and the cache file.
        folder: where they are.
        parts: their names, relative to the folder, by split; the cache keeps this order, so that
            each split is one piece of it.
        preparation: what is done to each.
        hint: what to do about pictures that cannot be read.
    """

    name: str
    folder: Path
    parts: Mapping[SplitName, Sequence[str]]
    preparation: Preparation
    hint: str = "Repair or remove them, or leave them out with data.on_error=skip."

    @property
    def names(self) -> list[str]:
        """Return all names in order."""
        return [name for part in self.parts.values() for name in part]

    def key(self) -> str:
        """Return a digest of all that decides the pixels, but for the files' contents."""
        folder = self.folder.resolve()
        facts = (FORMAT, os.fsencode(folder), self.preparation)
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=12)
        for name in self.names:
            digest.update(repr((os.fsencode(name), *_size_and_time(folder / name))).encode())
        return digest.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def load_parts(
    source: Source, *, on_error: OnError
) -> tuple[dict[SplitName, Part], Mapping[str, str]]:
    """Return the decoded pictures of each split, mapped from the cache, and what was skipped.

    They are decoded, in parallel, when the cache has them not. Decoding happens in threads: Pillow
    decodes and resizes beside other threads, which is two thirds of the work for a small JPEG and
    more for a large one, and no start of a process is asked of the caller's program.

    Raises:
        MissingError: files are unreadable and `on_error` is refuse, or a split has none left.
        CropError: a picture is smaller than the crop.
    """
    path = cache_root() / "pictures" / f"{source.name[:40]}-{source.key()}.npy"
    with _alone(path):
        found = _cached(path, source)
        if found is None:
            remove_leftovers(path)  # of one who was killed at it: gigabytes perhaps
            with pixel_limit(source.preparation.max_pixels):
                _decode(path, source, on_error)
            found = _cached(path, source)
    assert found is not None
    stored, skipped = found
    _refuse(source, skipped, on_error)
    return _cut(stored, source, skipped), skipped


def left_out(skipped: Mapping[str, str]) -> str | None:
    """Return what a data set's note says of skipped files."""
    if not skipped:
        return None
    return f"{len(skipped):,} unreadable file{'s' if len(skipped) > 1 else ''} left out"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time look and decode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        raise UsageError(
            f"cannot write to the cache {path.parent}: {error.strerror or error}",
            hint=f"Name another folder with {CACHE_VARIABLE}.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _cached(path: Path, source: Source) -> tuple[Stored, Mapping[str, str]] | None:
    """Return the mapped pictures and the skipped names; None where they must be made."""
    try:
        skipped = dict(read_json(path.with_suffix(".json"))["skipped"])
        # "c": pages are read when they are needed, and nothing written ever reaches the file
        mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, MemoryError):
        return None
    expected = (len(source.names) - len(skipped), *source.preparation.shape)
    if mapped.dtype != np.uint8 or mapped.shape != expected:
        return None
    return torch.from_numpy(mapped), skipped


def _decode(path: Path, source: Source, on_error: OnError) -> None:
    """Write the cache file, and beside it what was skipped."""
    skipped: dict[str, str] = {}

    def write(file: BinaryIO) -> None:
        _write_header(file, len(source.names), source.preparation)
        start = file.tell()
        for name, square in _squares(source):
            if isinstance(square, UnreadableError):
                skipped[name] = str(square)
            else:
                file.write(square.tobytes())
        _refuse(source, skipped, on_error)
        file.seek(0)
        _write_header(file, len(source.names) - len(skipped), source.preparation)
        assert file.tell() == start, "numpy leaves room for any number of rows"
        write_json(path.with_suffix(".json"), {"skipped": skipped})

    write_atomically(path, write)


def _write_header(file: BinaryIO, count: int, preparation: Preparation) -> None:
    header = {"shape": (count, *preparation.shape), "fortran_order": False, "descr": "|u1"}
    np.lib.format.write_array_header_1_0(file, header)


def _squares(source: Source) -> Iterator[tuple[str, Square | UnreadableError]]:
    """Yield every name with its picture, or with what is wrong with it, in order."""
    names, decode = source.names, partial(_read, source=source)
    decode(names[0])  # a crop that is too large shows at once
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), BLOCK):  # so that no more than a block waits in memory
            block = names[start : start + BLOCK]
            yield from zip(block, pool.map(decode, block), strict=True)
            tell(f"decoding {source.name}", start + len(block), len(names))


def _read(name: str, *, source: Source) -> Square | UnreadableError:
    try:
        return read_picture(source.folder / name, source.preparation)
    except UnreadableError as error:
        return error


def _refuse(source: Source, skipped: Mapping[str, str], on_error: OnError) -> None:
    """Raise if files were unreadable and that is not allowed, or if nothing is left."""
    if not skipped or (on_error == "skip" and len(skipped) < len(source.names)):
        return
    listed = [f"  {name}: {reason}" for name, reason in list(skipped.items())[:NAMED]]
    if len(skipped) > NAMED:
        listed.append(f"  and {len(skipped) - NAMED:,} more")
    raise MissingError(
        f"{len(skipped):,} of {len(source.names):,} pictures in {source.folder} cannot be read:\n"
        + "\n".join(listed),
        hint=source.hint,
    )


def _cut(stored: Stored, source: Source, skipped: Mapping[str, str]) -> dict[SplitName, Part]:
    parts: dict[SplitName, Part] = {}
    start = 0
    for split, names in source.parts.items():
        kept = tuple(name for name in names if name not in skipped)
        if not kept:
            raise MissingError(f"no readable picture is left for the {split} split")
        parts[split] = Part(stored[start : start + len(kept)], kept)
        start += len(kept)
    return parts
