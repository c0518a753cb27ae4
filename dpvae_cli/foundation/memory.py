"""Memory that runs out: told from other errors, and work done in parts that get smaller."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from dpvae_cli.foundation.errors import DpvaeError, UsageError

Chunk = TypeVar("Chunk")
CGROUP_LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
GIGABYTE = 2**30
OOM_ERRORS = (MemoryError, RuntimeError, OSError)
"""What running out of memory is raised as; each of them may be something else."""
OOM_MESSAGES = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",
    "overflowed",  # more bytes than 64 bits can count
    "multiplication overflow",
)
"""What torch, CUDA and their libraries say; only a GPU's lack of memory has a class of its own."""
OOM_HINT = "Close what else uses the memory, or choose another --device."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, this machine's or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    says_so = type(error).__name__ == "OutOfMemoryError"
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        says_so or any(sign in text for sign in OOM_MESSAGES)
    )


@contextmanager
def oom_context(
    doing: str, *, hint: str = OOM_HINT, kind: type[DpvaeError] = DpvaeError
) -> Iterator[None]:
    """Turn memory that runs out inside into an error that says at what and what to lower.

    Args:
        doing: at what, as in "in a step of training.batch_size=100".
        hint: what to lower.
        kind: which error.

    Raises:
        DpvaeError: of that kind, where memory ran out.
    """
    try:
        yield
    except OOM_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        message = f"memory ran out {doing}" + (f" ({reason})" if reason else "")
        raise kind(message, hint=hint) from error


def map_in_chunks(
    compute: Callable[[slice], Chunk], total: int, *, size: int, what: str
) -> Iterator[Chunk]:
    """Compute rows `size` at a time; where memory runs out, go on with half as many.

    Only what does not look across rows and draws nothing may be computed so. Numbers are those of
    one go but for rounding, for a matrix product of fewer rows may add in another order.

    Args:
        compute: of some rows.
        total: how many rows there are; none are computed too.
        size: how many to begin with.
        what: is computed, as an error says it.

    Yields:
        What `compute` returns, in the order of the rows.

    Raises:
        DpvaeError: there is not even memory for a single row.
    """
    start = 0
    while True:
        rows = slice(start, min(start + size, total))
        done = _tried(compute, rows, what)
        yield from done
        if not done:
            size = (rows.stop - rows.start + 1) // 2
        elif rows.stop == total:
            return
        else:
            start = rows.stop


def _tried(compute: Callable[[slice], Chunk], rows: slice, what: str) -> list[Chunk]:
    """Return the one part, or none where memory ran out; what it had taken is free again then."""
    try:
        return [compute(rows)]
    except OOM_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        if rows.stop - rows.start <= 1:
            reason = str(error).partition("\n")[0]
            raise DpvaeError(
                f"memory ran out: {what} of one row ({reason})", hint=OOM_HINT
            ) from error
    return []


@cache
def total_memory_bytes() -> int:
    """Return the bytes of memory this process can ever have: the machine's or its container's."""
    is_posix = hasattr(os, "sysconf")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if is_posix else 2**62
    return min(
        [machine, *(limit for path in CGROUP_LIMIT_FILES if (limit := _limit(path)) is not None)]
    )


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or none with a limit ("max")
        return None


def check_fits_in_memory(what: str, needed: int, *, hint: str | None = None) -> None:
    """Refuse what cannot fit into memory before any of it is made.

    Args:
        what: begins the message.
        needed: bytes.
        hint: what to do about it.

    Raises:
        UsageError: says how much there is.
    """
    if needed > total_memory_bytes():
        raise UsageError(
            f"{what} needs {needed / GIGABYTE:,.1f} GB of memory, "
            f"this machine has {total_memory_bytes() / GIGABYTE:,.1f} GB",
            hint=hint,
        )
