"""Report the progress of slow work: the command line and notebooks show it, else nothing does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import final

from dpvae_cli.foundation.notebook import NotebookProgress, is_notebook


@final
@dataclass(frozen=True)
class ProgressEvent:
    """`done` of `total` parts of a task are done; `text` is shown beside the count."""

    task: str
    done: int
    total: int | None = None
    """None where it is not known."""
    text: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.total is not None and self.done >= self.total


ProgressHandler = Callable[[ProgressEvent], None]


def ignore_progress(event: ProgressEvent) -> None:
    """Ignore the event."""


_handler: ContextVar[ProgressHandler | None] = ContextVar("progress_handler", default=None)


def report_progress(task: str, done: int, total: int | None = None, text: str = "") -> None:
    """Send an event to the handler in force; without one a notebook shows it."""
    handler = _handler.get() or default_handler()
    handler(ProgressEvent(task, done, total, text))


@cache
def default_handler() -> ProgressHandler:
    """Return what shows progress where no handler is in force."""
    return NotebookProgress() if is_notebook() else ignore_progress


@contextmanager
def handle_progress(handler: ProgressHandler) -> Iterator[None]:
    """Send all events that are reported inside the block to `handler`."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


def format_duration(seconds: float) -> str:
    """Return a rough time: "about 3 h"."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
