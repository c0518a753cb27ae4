"""Files that are there whole or not at all."""

import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.strangers import memory

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, AttributeError, TypeError),
    *(KeyError, MemoryError, OverflowError, SyntaxError, struct.error),
)
"""What numpy raises at an .npz that is torn, encrypted or none at all, beside ValueError."""


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True
) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to disk and rename it over `path`.

    A crash at any moment leaves either the old file or the new one. Without `durable` nothing is
    synced, which is faster for many files, and a power cut may leave an empty file.

    Raises:
        UsageError: the folder cannot be written to; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder; what was there before is untouched.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON atomically; NaN and infinities are refused, not written."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as .npz atomically. None of them may hold Python objects."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    write_atomically(path, lambda file: np.savez(file, **dict(arrays)))  # type: ignore[arg-type]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz; pickled objects are refused by numpy, so nothing can execute.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise ValueError(f"{path} is no whole .npz") from error


def refuse_bomb(path: Path) -> None:
    """Refuse a zip, which an .npz is, that would unpack into more than all memory.

    Raises:
        ValueError: it would.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > memory():
        raise ValueError(f"{path} would unpack into {size:,} bytes, more than all memory")


def write_kept(path: Path, arrays: Mapping[str, np.ndarray], *, checkpoint: str) -> None:
    """Write arrays beside the checkpoint they follow from, with its digest."""
    write_npz(path, {**arrays, "checkpoint": np.array(checkpoint)})


def read_kept(path: Path, *, checkpoint: str) -> dict[str, np.ndarray] | None:
    """Return what `write_kept` wrote for this checkpoint; None if absent, damaged or another's."""
    try:
        arrays = read_npz(path)
        return arrays if str(arrays.pop("checkpoint")) == checkpoint else None
    except (OSError, ValueError, KeyError):
        return None
