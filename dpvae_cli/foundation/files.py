"""Files that are there whole or not at all."""

import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from dpvae_cli.foundation.array_files import read_npz
from dpvae_cli.foundation.errors import UsageError

RANDOM = 8
"""Characters at the end of a temporary file's name."""


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    durable: bool = True,
    previous: Path | None = None,
) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to disk and rename it over `path`.

    A crash at any moment leaves either the old file or the new one. Without `durable` nothing is
    synced, which is faster for many files, and a power cut may leave an empty file.

    Args:
        path: the file.
        write: fills it.
        durable: sync it.
        previous: where to keep the file that was at `path`, in the same folder; at no moment is
            either of the two without a whole file.

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
        _fill(descriptor, write, durable=durable)
        temporary.chmod(0o666 & ~_umask())
        if previous is not None and path.is_file():
            point(previous, to=path)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder; what was there before is untouched.",
        ) from error
    finally:
        with suppress(OSError):  # a folder that can no longer be written to keeps it
            temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def _fill(descriptor: int, write: Callable[[BinaryIO], object], *, durable: bool) -> None:
    """Fill the file; what the disk refused is raised, whatever `write` makes of it."""
    raw = _Noting(descriptor, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except Exception as error:
        if raw.refused is not None:  # torch tells of it in words of its own
            raise raw.refused from error
        raise


@final
class _Noting(io.FileIO):
    """A file that remembers the error of the disk."""

    refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or note why not."""
        try:
            return super().write(data)
        except OSError as error:
            self.refused = error
            raise


def point(name: Path, *, to: Path) -> None:
    """Let `name` be the file at `to`, which keeps its own name, in one step.

    Raises:
        OSError: the folder cannot be written to; what was at `name` is untouched.
    """
    if name.exists() and name.samefile(to):
        return
    second = name.with_name(f".{name.name}.{secrets.token_hex(RANDOM // 2)}")
    try:
        try:
            os.link(to, second)
        except OSError:  # some file systems have no second names
            shutil.copyfile(to, second)
        second.replace(name)
    finally:
        with suppress(OSError):
            second.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` that were killed left beside it; none may be at work."""
    start = f".{path.name}."
    with suppress(OSError):
        for beside in list(path.parent.iterdir()):
            if beside.name.startswith(start) and len(beside.name) == len(start) + RANDOM:
                beside.unlink(missing_ok=True)


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
