"""Read .npy and .npz files that cannot be trusted: first headers, then the arrays needed."""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

import numpy as np

from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.memory import total_memory_bytes

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, AttributeError, TypeError),
    *(KeyError, MemoryError, OverflowError, SyntaxError, struct.error),
)
"""What numpy raises at a corrupt or encrypted file, besides ValueError."""
ONLY = "x"
"""The name of the array in a .npy."""
SUFFIX = ".npy"
OBJECTS = "{} holds Python objects in place of numbers; did its rows differ in length?"
START = 4_096
"""Bytes read to recognise other kinds of files."""
SEPARATORS = ",;\t"


@final
@dataclass(frozen=True)
class Header:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Return the bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(path: Path) -> dict[str, Header]:
    """Return the headers of all arrays by name; the array of a .npy is named x.

    Other members of an .npz are not read.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is corrupt or another kind of file; the text says which.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START)
            if start.startswith(np.lib.format.MAGIC_PREFIX):
                file.seek(0)
                return {ONLY: _header(ONLY, file)}
            if not zipfile.is_zipfile(file):
                raise ValueError(_foreign(start))
        headers = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(SUFFIX):
                    name = member.removesuffix(SUFFIX)
                    with archive.open(member) as file:
                        headers[name] = _header(name, file)
            listed = ", ".join(archive.namelist()[:3]) or "nothing"
    except DAMAGED as error:
        raise ValueError(f"it is damaged ({str(error) or type(error).__name__})") from error
    if not headers:
        raise ValueError(f"it is a zip archive of {listed}, and not of arrays")
    return headers


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return some of the arrays that `read_headers` lists; no others are read.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is corrupt, or an array does not fit into memory or holds objects.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                file.seek(0)
                return {name: _array(name, file, path.stat().st_size) for name in names}
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for name in names:
                with archive.open(name + SUFFIX) as member:
                    size = archive.getinfo(name + SUFFIX).file_size
                    arrays[name] = _array(name, member, size)
    except DAMAGED as error:
        raise ValueError(f"it is damaged ({str(error) or type(error).__name__})") from error
    return arrays


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz that `write_npz` wrote.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is corrupt, or holds anything but arrays of numbers or text.
    """
    try:
        arrays = read_arrays(path, read_headers(path))
        with zipfile.ZipFile(path) as archive:
            others = [name for name in archive.namelist() if not name.endswith(SUFFIX)]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is an .npy, not an .npz") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if others:
        raise ValueError(f"{path} holds something else than arrays: {others[0]}")
    return arrays


def is_whole(array: np.ndarray) -> bool:
    """Tell whether all values are whole numbers, whatever their type."""
    if array.dtype.kind != "f":
        return array.dtype.kind in "bui"
    return bool((np.isfinite(array) & (array == np.rint(array))).all())


def _header(name: str, file: IO[bytes] | zipfile.ZipExtFile) -> Header:
    version = np.lib.format.read_magic(file)
    headers = np.lib.format
    is_first = version == (1, 0)
    read = headers.read_array_header_1_0 if is_first else headers.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"the header of {name} is damaged") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"the header of {name} is damaged: its shape is {shape}")
    return Header(tuple(shape), dtype)


def _array(name: str, file: IO[bytes] | zipfile.ZipExtFile, size: int) -> np.ndarray:
    """Return the array in a file of `size` bytes; its header is checked against the size."""
    header = _header(name, file)
    if header.dtype.hasobject:
        raise ValueError(OBJECTS.format(name))
    if header.nbytes > total_memory_bytes():
        raise ValueError(f"{name} would take {header.nbytes:,} bytes, more than all memory")
    if header.nbytes > (there := size - file.tell()):
        raise ValueError(f"{name} is cut short: {there:,} of {header.nbytes:,} bytes are there")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _foreign(start: bytes) -> str:
    """Describe a file of another kind by its first bytes."""
    if not start:
        return "the file is empty"
    if start.startswith(b"\x80"):
        return "it is a pickle, which may run anything when it is opened, so it is not"
    text = start[: start.rfind(b"\n") + 1] or start
    try:
        first = text.decode("utf-8-sig").splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        return "it is neither of the two"
    if any(separator in first for separator in SEPARATORS):
        return "it is a CSV, which is text"
    return "it is text" if first.isprintable() else "it is neither of the two"


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz atomically; they must not hold Python objects."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    write_atomically(path, lambda file: np.savez(file, **dict(arrays)))  # type: ignore[arg-type]


def write_cache(path: Path, arrays: Mapping[str, np.ndarray], *, checkpoint: str) -> None:
    """Write arrays computed from a checkpoint, with its digest."""
    write_npz(path, {**arrays, "checkpoint": np.array(checkpoint)})


def read_cache(path: Path, *, checkpoint: str) -> dict[str, np.ndarray] | None:
    """Return the arrays that `write_cache` wrote for this checkpoint, or None."""
    try:
        arrays = read_npz(path)
        return arrays if str(arrays.pop("checkpoint")) == checkpoint else None
    except (OSError, ValueError, KeyError):
        return None
