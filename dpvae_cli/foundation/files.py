"""Files that are there whole or not at all."""

import io
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from dpvae_cli.foundation.array_files import read_npz
from dpvae_cli.foundation.errors import UsageError

if sys.platform != "win32":
    import fcntl

HIDDEN_PREFIX = ".dpvae-"
"""How the names of hidden files begin that nobody but dpvae makes."""
TEMPORARY_PREFIX = f"{HIDDEN_PREFIX}tmp-"
"""How the name of a file begins that is being written."""


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
        if durable:
            remove_stale_temporaries(path.parent)
        descriptor, temporary = _make_temporary(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        _fill(descriptor, write, durable=durable)
        temporary.chmod(0o666 & ~_umask())
        if previous is not None and path.is_file():
            link_to(previous, to=path)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder; what was there before is untouched.",
        ) from None
    finally:
        with suppress(OSError):  # a folder that can no longer be written to keeps it
            temporary.unlink(missing_ok=True)
        os.close(descriptor)
    if durable:
        sync_folder(path.parent)


def _make_temporary(folder: Path) -> tuple[int, Path]:
    """Open a new file and lock it, so that `remove_stale_temporaries` leaves it alone."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX)
        if _lock(descriptor) is not False and Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)  # another process took it for a leftover before it was locked


def _lock(descriptor: int) -> bool | None:
    """Lock an open file; False where another process has, None where files cannot be locked."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not on this file system
        return None
    return True


def remove_stale_temporaries(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; those of writers at work are locked.

    What cannot be locked stays, and so does everything that is not named as only dpvae names it.
    """
    with suppress(OSError):
        for path in list(folder.glob(f"{TEMPORARY_PREFIX}*")):
            with suppress(OSError), path.open("rb") as file:
                if _lock(file.fileno()):
                    path.unlink()


def _fill(descriptor: int, write: Callable[[BinaryIO], object], *, durable: bool) -> None:
    """Fill the file; what the disk refused is raised, whatever `write` makes of it."""
    raw = _ErrorRecordingFile(descriptor, "wb", closefd=False)
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
class _ErrorRecordingFile(io.FileIO):
    """A file that remembers the error of the disk."""

    refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or note why not."""
        try:
            return super().write(data)
        except OSError as error:
            self.refused = error
            raise


def link_to(name: Path, *, to: Path) -> None:
    """Let `name` be the file at `to`, which keeps its own name, in one step.

    Raises:
        OSError: the folder cannot be written to; what was at `name` is untouched.
        UsageError: the same, where the file system has no second names and a copy is made.
    """
    if name.exists() and name.samefile(to):
        return
    second = name.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}")
    with to.open("rb") as file:
        _lock(file.fileno())  # both names are of one file, so this holds for the temporary one
        try:
            os.link(to, second)
            second.replace(name)
        except OSError:
            with suppress(OSError):
                second.unlink(missing_ok=True)
            copy_file(to, name)


def copy_file(source: Path, target: Path) -> None:
    """Write a copy of a file atomically."""
    with source.open("rb") as file:
        write_atomically(target, lambda written: shutil.copyfileobj(file, written))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
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


def write_cache(path: Path, arrays: Mapping[str, np.ndarray], *, checkpoint: str) -> None:
    """Write arrays beside the checkpoint they follow from, with its digest."""
    write_npz(path, {**arrays, "checkpoint": np.array(checkpoint)})


def read_cache(path: Path, *, checkpoint: str) -> dict[str, np.ndarray] | None:
    """Return what `write_cache` wrote for this checkpoint; None if absent, damaged or another's."""
    try:
        arrays = read_npz(path)
        return arrays if str(arrays.pop("checkpoint")) == checkpoint else None
    except (OSError, ValueError, KeyError):
        return None
