"""Write files atomically: a reader finds the old file or the new one, never a part of it."""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from dpvae_cli.foundation.errors import UsageError

try:
    import fcntl

    HAS_FLOCK = True
except ImportError:  # Windows
    HAS_FLOCK = False

HIDDEN_PREFIX = ".dpvae-"
"""The names of hidden files that only dpvae makes begin with this."""
TEMPORARY_PREFIX = f"{HIDDEN_PREFIX}tmp-"
"""The names of files that are being written begin with this."""


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    durable: bool = True,
    previous: Path | None = None,
) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to disk and rename it over `path`.

    A crash leaves either the old file or the new one. Without `durable` nothing is synced, which is
    faster for many files; then a power failure may leave an empty file.

    Args:
        path: the file.
        write: writes the content.
        durable: sync the file and its folder to disk.
        previous: a name in the same folder for the file that was at `path`; at every moment both
            names have a whole file.

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
        with BufferedWriter(FileIO(descriptor, "wb", closefd=False)) as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.umask(mask := os.umask(0))  # the only way to read it
        temporary.chmod(0o666 & ~mask)
        if previous is not None and path.is_file():
            link_to(previous, to=path)
        if not HAS_FLOCK:  # Windows replaces closed files only
            os.close(descriptor)
            descriptor = -1
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder; what was there before is untouched.",
        ) from None
    finally:
        with suppress(OSError):  # a folder that can no longer be written to keeps it
            if descriptor >= 0:
                os.close(descriptor)
            temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def _make_temporary(folder: Path) -> tuple[int, Path]:
    """Open a new file and lock it: `remove_stale_temporaries` removes unlocked files only."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX)
        if _lock(descriptor) is not False and Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)  # another process took it for a leftover before it was locked


def _lock(descriptor: int) -> bool | None:
    """Lock an open file; False if another process has, None if files cannot be locked here."""
    if not HAS_FLOCK:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not on this file system
        return None
    return True


def remove_stale_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed writers; running writers have locked theirs.

    Files that cannot be locked stay, and so do all files with other names.
    """
    with suppress(OSError):
        for path in list(folder.glob(f"{TEMPORARY_PREFIX}*")):
            with suppress(OSError), path.open("rb") as file:
                if _lock(file.fileno()):
                    path.unlink()


def link_to(name: Path, *, to: Path) -> None:
    """Make `name` a hard link to the file at `to` in one step, or a copy where links are missing.

    Raises:
        OSError, UsageError: the folder cannot be written to; what was at `name` is untouched.
    """
    if name.exists() and name.samefile(to):
        return
    second = name.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}")
    with to.open("rb") as file:
        _lock(file.fileno())  # locks the temporary name, too
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


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
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
    """Write indented JSON atomically; numbers that are not finite raise ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def hold_lock(path: Path, *, timeout: float = -1.0, hint: str | None = None) -> Iterator[None]:
    """Hold the lock file at `path`, made with its folder; by default wait for it.

    Raises:
        Timeout: another process held it for `timeout` seconds.
        UsageError: the folder cannot be written to, with the hint.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write to {path.parent}: {reason}", hint=hint) from None
    try:
        yield
    finally:
        lock.release()
