"""How slow preparation says how far it is; whoever listens shows it, by itself it is silent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ProgressHandler = Callable[[str, int, int], None]
"""Hears that of something so many parts of so many are done."""


def ignore_progress(what: str, done: int, total: int) -> None:
    """Ignore it."""


_listening: ContextVar[ProgressHandler] = ContextVar("listening", default=ignore_progress)


def report_progress(what: str, done: int, total: int) -> None:
    """Tell whoever listens that `done` of `total` parts of `what` are done."""
    _listening.get()(what, done, total)


@contextmanager
def handle_progress(listener: ProgressHandler) -> Iterator[None]:
    """Let `listener` hear of all that is told inside the block."""
    token = _listening.set(listener)
    try:
        yield
    finally:
        _listening.reset(token)


def format_duration(seconds: float) -> str:
    """Return a time that is only known roughly: "about 3 h"."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
