"""Read .npy and .npz files of anybody's: what they hold by their headers, then what is needed."""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

import numpy as np

from dpvae_cli.foundation.memory import total_memory_bytes

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, AttributeError, TypeError),
    *(KeyError, MemoryError, OverflowError, SyntaxError, struct.error),
)
"""What numpy raises at an .npz that is torn, encrypted or none at all, beside ValueError."""
ONLY = "x"
"""The name of the array in a .npy."""
SUFFIX = ".npy"
OBJECTS = "{} holds Python objects in place of numbers; did its rows differ in length?"
START = 4_096
"""Bytes from which a file that is neither .npy nor .npz is recognised."""
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

    What else lies in an .npz, pickled objects for one, is left out and not read.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged or something else; the text says what it is.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START)
            if start.startswith(np.lib.format.MAGIC_PREFIX):
                file.seek(0)
                return {ONLY: _header(ONLY, file)}
            if not zipfile.is_zipfile(file):
                raise ValueError(_foreign(start))
        with zipfile.ZipFile(path) as archive:
            return _headers(archive)
    except DAMAGED as error:
        raise ValueError(f"it is damaged ({_reason(error)})") from error


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return some of the arrays that `read_headers` names; no others are read.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or an array is larger than all memory or holds Python objects.
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
        raise ValueError(f"it is damaged ({_reason(error)})") from error
    return arrays


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an .npz with nothing else in it, as `write_npz` leaves it.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or holds something else than arrays of numbers or text.
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


def _headers(archive: zipfile.ZipFile) -> dict[str, Header]:
    names = [name.removesuffix(SUFFIX) for name in archive.namelist() if name.endswith(SUFFIX)]
    if not names:
        listed = ", ".join(archive.namelist()[:3]) or "nothing"
        raise ValueError(f"it is a zip archive of {listed}, and not of arrays")
    headers = {}
    for name in names:
        with archive.open(name + SUFFIX) as member:
            headers[name] = _header(name, member)
    return headers


def _header(name: str, file: IO[bytes] | zipfile.ZipExtFile) -> Header:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else (np.lib.format.read_array_header_2_0)
    )
    try:
        shape, _, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"the header of {name} is damaged") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"the header of {name} is damaged: its shape is {shape}")
    return Header(tuple(shape), dtype)


def _array(name: str, file: IO[bytes] | zipfile.ZipExtFile, size: int) -> np.ndarray:
    """Return an array from a file of `size` bytes, whose header is not believed."""
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
    """Say what a file is that begins so."""
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


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
