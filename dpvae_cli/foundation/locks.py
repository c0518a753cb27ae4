"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dpvae_cli.foundation.errors import UsageError


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
