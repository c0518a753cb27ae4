"""Progress of a study on stderr: all cells at work on one screen, or a line an event."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from dpvae_cli.cli import console
from dpvae_cli.studies.messages import Event, EventHandler, ignore_event

FINAL = ("done", "failed", "interrupted")
REPORTED = ("started", "busy", "lost", "measuring", *FINAL)
"""What is worth a line; steps are not."""


@contextmanager
def study_progress(cells: int, *, quiet: bool) -> Iterator[EventHandler]:
    """Return what hears of a study: a screen on a terminal, lines elsewhere."""
    out = console.stderr()
    if quiet:
        yield ignore_event
    elif not out.is_terminal:
        yield StudyLines(out, cells)
    else:
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn(
                "{task.fields[text]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
        )
        with Progress(*columns, console=out, expand=True) as progress:
            yield StudyProgress(progress, cells)


def format_event(event: Event) -> str:
    """Return an event as one line."""
    return f"{event.cell}: {event.kind}{f' {event.text}' if event.text else ''}"


@final
class StudyLines:
    """Prints a line for what begins, ends or goes wrong."""

    def __init__(self, out: Console, cells: int) -> None:
        self._out, self._cells, self._ended = out, cells, 0
        self._last: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Print the event, unless it is only progress."""
        line = format_event(event)
        if event.kind not in REPORTED or self._last.get(event.cell) == line:
            return
        self._last[event.cell] = line
        if event.kind in FINAL:
            self._ended += 1
            line = f"[{self._ended}/{self._cells}] {line}"
        self._out.print(line, markup=False)


@final
class StudyProgress:
    """Shows a bar for all cells and one for each at work; what ended scrolls away above."""

    def __init__(self, progress: Progress, cells: int) -> None:
        self._progress = progress
        self._all = progress.add_task("cells", total=cells, text="")
        self._tasks: dict[str, TaskID] = {}
        self._counts: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Move the bars."""
        if event.kind in (*FINAL, "lost", "busy"):
            self._end(event)
            return
        if event.cell not in self._tasks:
            self._tasks[event.cell] = self._progress.add_task(event.cell, total=None, text="")
        text = f"{event.kind} {event.text}".strip()
        self._progress.update(
            self._tasks[event.cell],
            completed=event.done,
            total=event.total or None,
            text=text,
        )

    def _end(self, event: Event) -> None:
        if event.cell in self._tasks:
            self._progress.remove_task(self._tasks.pop(event.cell))
        self._progress.console.print(format_event(event), markup=False)
        if event.kind in FINAL:
            self._counts[event.kind] += 1
            counts = ", ".join(f"{number} {kind}" for kind, number in self._counts.items())
            self._progress.update(self._all, advance=1, text=counts)
