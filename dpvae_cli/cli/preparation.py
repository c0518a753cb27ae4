"""Progress of slow preparation, such as decoding a folder of pictures, on stderr."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, final

from dpvae_cli.foundation.progress import handle_progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

LINE_EVERY = 2.0


@contextmanager
def shown_on_demand() -> Iterator[None]:
    """Show a bar on a terminal while something is prepared; commands with bars take over."""
    with OnDemand() as bar, handle_progress(bar.show):
        yield


@final
class OnDemand:
    """A bar that is there only while it is needed, so that no other bar is in its way."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._tasks: Tasks | None = None

    def __enter__(self) -> "OnDemand":
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take away what is left of it, after an error for one."""
        self._open.close()

    def show(self, what: str, done: int, total: int) -> None:
        """Show how far it is; nothing where stderr is no terminal."""
        from dpvae_cli.cli import console

        out = console.stderr()
        if not out.is_terminal:
            return
        if self._tasks is None:
            self._tasks = Tasks(self._open.enter_context(_bar(out)))
        self._tasks.show(what, done, total)
        if done >= total:
            self._open.close()
            self._tasks = None


def _bar(out: "Console") -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=out, transient=True)


@final
class Tasks:
    """Shows preparation as tasks of a bar that is there already; finished ones go.

    Args:
        progress: the bar.
        fields: what its columns want of a task; `{what}` in them stands for what is prepared.
    """

    def __init__(self, progress: "Progress", **fields: Any) -> None:
        self._progress, self._fields = progress, fields
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int) -> None:
        """Move the task."""
        if what not in self._tasks:
            fields = {key: text.format(what=what) for key, text in self._fields.items()}
            self._tasks[what] = self._progress.add_task(what, total=total, **fields)
        self._progress.update(self._tasks[what], completed=done)
        if done >= total:
            self._progress.remove_task(self._tasks.pop(what))


@final
class Lines:
    """Shows preparation as plain lines, at most one every two seconds."""

    def __init__(self, out: "Console") -> None:
        self._out = out
        self._shown = time.perf_counter()

    def show(self, what: str, done: int, total: int) -> None:
        """Print a line now and then."""
        now = time.perf_counter()
        if now - self._shown > LINE_EVERY:
            self._shown = now
            self._out.print(f"{what}: {done:,} of {total:,}", markup=False)
