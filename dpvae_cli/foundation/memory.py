"""Out-of-memory errors, computing in chunks that fit, and how much memory there is."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
"""The types of errors that running out of memory raises, among other things."""
OOM_MESSAGES = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",
    "overflowed",  # more bytes than 64 bits can count
    "multiplication overflow",
)
"""Parts of the messages of torch, CUDA and their libraries."""
OOM_HINT = "Close what else uses the memory, or choose another --device."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the memory of this machine or of a GPU ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    is_gpu_error = type(error).__name__ == "OutOfMemoryError"
    return is_gpu_error or any(message in text for message in OOM_MESSAGES)


@contextmanager
def oom_context(
    doing: str, *, hint: str = OOM_HINT, kind: type[DpvaeError] = DpvaeError
) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into one that says what to do about it.

    Args:
        doing: when it happened, as in "in a step of training.batch_size=100".
        hint: what to lower.
        kind: the type of the error.

    Raises:
        DpvaeError: of type `kind`, where memory ran out.
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
    """Compute `size` rows at a time; where memory runs out, go on with half as many.

    Rows must be independent of each other, and `compute` must not draw random numbers. Numbers
    equal those of one chunk but for rounding.

    Args:
        compute: computes some rows.
        total: the number of rows; `compute` is called for 0 rows, too.
        size: the number of rows to begin with.
        what: the name of the quantity in errors.

    Yields:
        What `compute` returns, in the order of the rows.

    Raises:
        DpvaeError: memory does not even suffice for a single row.
    """
    start = 0
    while True:
        rows = slice(start, min(start + size, total))
        try:
            chunk = compute(rows)
        except OOM_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            if rows.stop - rows.start <= 1:
                reason = str(error).partition("\n")[0]
                message = f"memory ran out: {what} of one row ({reason})"
                raise DpvaeError(message, hint=OOM_HINT) from error
            size = (rows.stop - rows.start + 1) // 2
            continue
        yield chunk
        if rows.stop == total:
            return
        start = rows.stop


@cache
def total_memory_bytes() -> int:
    """Return the memory of the machine, or the limit of the container this process runs in."""
    is_posix = hasattr(os, "sysconf")
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if is_posix else 2**62]
    for path in CGROUP_LIMIT_FILES:
        with suppress(OSError, ValueError):  # not in a container, or without a limit ("max")
            sizes.append(int(path.read_text(encoding="ascii")))
    return min(sizes)


def check_fits_in_memory(what: str, needed: int, *, hint: str | None = None) -> None:
    """Check that `needed` bytes fit into memory, before any of them is allocated.

    Raises:
        UsageError: they do not; the message begins with `what`.
    """
    if needed > total_memory_bytes():
        raise UsageError(
            f"{what} needs {needed / GIGABYTE:,.1f} GB of memory, "
            f"this machine has {total_memory_bytes() / GIGABYTE:,.1f} GB",
            hint=hint,
        )
