"""Memory that runs out: told from other errors, and work done in parts that get smaller."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dpvae_cli.foundation.errors import DpvaeError

Part = TypeVar("Part")
ERRORS = (MemoryError, RuntimeError, OSError)
"""What running out of memory is raised as; each of them may be something else."""
SIGNS = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",
    "overflowed",  # more bytes than 64 bits can count
    "multiplication overflow",
)
"""What torch, CUDA and their libraries say; only a GPU's lack of memory has a class of its own."""
FREE = "Close what else uses the memory, or choose another --device."


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, this machine's or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    says_so = type(error).__name__ == "OutOfMemoryError"
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (says_so or any(sign in text for sign in SIGNS))


@contextmanager
def explained(
    doing: str, *, hint: str = FREE, kind: type[DpvaeError] = DpvaeError
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
    except ERRORS as error:
        if not ran_out(error):
            raise
        reason = str(error).partition("\n")[0]
        message = f"memory ran out {doing}" + (f" ({reason})" if reason else "")
        raise kind(message, hint=hint) from error


def in_parts(
    compute: Callable[[slice], Part], total: int, *, size: int, what: str
) -> Iterator[Part]:
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


def _tried(compute: Callable[[slice], Part], rows: slice, what: str) -> list[Part]:
    """Return the one part, or none where memory ran out; what it had taken is free again then."""
    try:
        return [compute(rows)]
    except ERRORS as error:
        if not ran_out(error):
            raise
        if rows.stop - rows.start <= 1:
            reason = str(error).partition("\n")[0]
            raise DpvaeError(f"memory ran out: {what} of one row ({reason})", hint=FREE) from error
    return []
