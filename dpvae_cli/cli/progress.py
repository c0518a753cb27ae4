"""Progress on stderr: bars on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from dpvae_cli.cli import console
from dpvae_cli.foundation.progress import ProgressEvent
from dpvae_cli.foundation.text import escape_control_chars
from dpvae_cli.training.events import Callback

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from dpvae_cli.data import Dataset

REFRESH, LINE_EVERY = 0.1, 2.0
"""Seconds between two updates of a bar, and between two plain lines."""


@final
class ProgressDisplay:
    """Handles progress events for a whole command.

    The bars are there only while a task is, so that nothing else is in their way.
    """

    def __init__(self) -> None:
        self._bars = ExitStack()
        self._tasks: dict[str, TaskID] = {}
        self._out: Console | None = None
        self._progress: Progress | None = None
        self._updated = time.perf_counter()

    def __enter__(self) -> "ProgressDisplay":
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is left of the bars."""
        self._bars.close()

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event; of those that come fast only some."""
        self._out = self._out or console.stderr()
        now = time.perf_counter()
        if not self._out.is_terminal:
            if now - self._updated > LINE_EVERY:
                self._updated = now
                total = "" if event.total is None else f" of {event.total:,}"
                text = event.text and f"  {event.text}"
                self._out.print(f"{event.task}: {event.done:,}{total}{text}", markup=False)
        elif event.is_finished:
            if event.task in self._tasks and self._progress is not None:
                self._progress.remove_task(self._tasks.pop(event.task))
            if not self._tasks:
                self._bars.close()
                self._progress = None
        elif event.task not in self._tasks or now - self._updated > REFRESH:
            self._updated = now
            if self._progress is None:
                self._progress = self._bars.enter_context(_bars(self._out))
            if event.task not in self._tasks:
                name = escape_control_chars(event.task)  # before widths are measured
                self._tasks[event.task] = self._progress.add_task(name, total=None, text="")
            self._progress.update(
                self._tasks[event.task], completed=event.done, total=event.total, text=event.text
            )


def _bars(out: "Console") -> "Progress":
    """Return bars that on a narrow terminal cut the text first, and never the counts."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=8),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
        TextColumn(
            "{task.fields[text]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=out,
        transient=True,
        expand=True,
    )


class LatestLink(Callback):
    """Lets runs/latest name a run that starts, or one that overwrites from its first checkpoint."""

    def __init__(self, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite

    def on_train_start(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Name the run, unless an older one is still in its folder."""
        from dpvae_cli.runs.run_folder import update_latest_link

        if not self._overwrite:
            update_latest_link(run_dir)

    def on_checkpoint(self, path: Path, *, iteration: int) -> None:
        """Name the run, which has replaced the older one."""
        from dpvae_cli.runs.run_folder import update_latest_link

        if self._overwrite:
            update_latest_link(path.parent)


@final
class TrainingProgress(LatestLink):
    """Prints data, folder and validations."""

    def on_data_loaded(self, dataset: "Dataset") -> None:
        """Print the sizes of the splits."""
        console.note(data_lines(dataset))

    def on_train_start(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Print the folder."""
        super().on_train_start(run_dir, iteration=iteration, iterations=iterations)
        if iteration >= iterations:
            console.note(
                f"{run_dir} is complete at iteration {iteration}; "
                "raise training.iterations to continue"
            )
        else:
            start = f" from iteration {iteration}" if iteration else ""
            console.note(f"Training in {run_dir}{start}, {iterations} iterations")

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Print a validation."""
        if record["kind"] == "validation":
            names = ("elbo", "reconstruction", "kl", "active_units", "skl")
            values = "  ".join(f"{name} {record[name]:.4g}" for name in names)
            console.note(f"{record['iteration']:>8}  {record['kind']:<10}  {values}")


def data_lines(dataset: "Dataset") -> str:
    """Return how many examples each split has, and what is notable about them, one per line."""
    summary = dataset.summary
    remarks = [*summary.remarks, *([] if dataset.note is None else [dataset.note])]
    return "\n".join([f"Data {dataset.name}: {summary}", *(f"  {text}" for text in remarks)])
