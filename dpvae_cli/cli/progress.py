"""Progress of training and metrics on stderr: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

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

from dpvae_cli.cli import console, preparation
from dpvae_cli.data import Dataset
from dpvae_cli.evaluation.context import Progress as MetricProgress
from dpvae_cli.evaluation.context import no_progress
from dpvae_cli.foundation.progress import format_duration, handle_progress, ignore_progress
from dpvae_cli.training.listener import Listener, Silent

REFRESH, LINE_EVERY = 0.1, 2.0
LONG = 600.0
"""Seconds of waiting that one is told of beforehand."""


@contextmanager
def listener(*, quiet: bool) -> Iterator[Listener]:
    """Return what hears of a run: a bar on a terminal, lines elsewhere, nothing with --quiet."""
    out = console.stderr()
    if quiet:
        with handle_progress(ignore_progress):
            yield Silent()
    elif not out.is_terminal:
        with handle_progress(preparation.Lines(out).show):
            yield Lines(out)
    else:
        with bar(out) as progress:
            tasks = preparation.Tasks(progress, numbers="{what}", pace="")
            with handle_progress(tasks.show):
                yield Bar(progress)


def bar(out: Console) -> Progress:
    """Return a progress bar: count, percentage, pace, time left and, where there is room, terms.

    Where the terminal is narrow the terms are cut first; the count and the percentage always stay.
    """
    whole = Column(no_wrap=True, min_width=9)
    return Progress(
        BarColumn(bar_width=16),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=15)),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TextColumn("{task.fields[pace]}", table_column=whole),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
        TextColumn(
            "{task.fields[numbers]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=out,
        transient=False,
        expand=True,
    )


@final
class Bar:
    """Shows a run as a bar with rate, time left and the loss terms."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._shown = 0.0

    def loaded(self, dataset: Dataset) -> None:
        """Show the sizes of the splits."""
        self._progress.console.print(data_lines(dataset), markup=False)

    def started(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Show the folder and start the bar."""
        opening = announcement(run_dir, iteration, iterations)
        self._progress.console.print(opening, markup=False)
        self._task = self._progress.add_task(
            "train", total=iterations, completed=iteration, numbers="", pace=""
        )

    def stepped(self, iteration: int) -> None:
        """Move the bar, at most ten times a second."""
        now = time.perf_counter()
        if self._task is not None and now - self._shown > REFRESH:
            self._shown = now
            self._progress.update(self._task, completed=iteration)

    def logged(self, record: Mapping[str, Any]) -> None:
        """Show the terms beside the bar, a validation on a line of its own."""
        assert self._task is not None
        if record["kind"] == "validation":
            self._progress.console.print(line(record), markup=False)
        else:
            pace = f"{record['steps_per_second']:.0f} steps/s"
            self._progress.update(
                self._task, completed=record["iteration"], numbers=terms(record), pace=pace
            )

    def saved(self, path: Path, *, iteration: int) -> None:
        """Say nothing; the bar is enough."""


@final
class Lines:
    """Shows a run as plain lines, at most one training line every two seconds."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._shown = 0.0

    def loaded(self, dataset: Dataset) -> None:
        """Say the sizes of the splits."""
        self._print(data_lines(dataset))

    def started(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Say where and how far."""
        self._print(announcement(run_dir, iteration, iterations))

    def stepped(self, iteration: int) -> None:
        """Say nothing."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Print validations, and training terms now and then."""
        now = time.perf_counter()
        if record["kind"] == "validation" or now - self._shown > LINE_EVERY:
            self._shown = now
            self._print(line(record))

    def saved(self, path: Path, *, iteration: int) -> None:
        """Say nothing."""

    def _print(self, text: str) -> None:
        self._out.print(text, markup=False)


def data_lines(dataset: Dataset) -> str:
    """Return how many examples each split has, and what is to be said of them, a line each."""
    summary = dataset.summary
    remarks = [*summary.remarks, *([] if dataset.note is None else [dataset.note])]
    return "\n".join([f"Data {dataset.name}: {summary}", *(f"  {text}" for text in remarks)])


def announcement(run_dir: Path, iteration: int, iterations: int) -> str:
    """Return what is about to happen as one line."""
    if iteration >= iterations:
        return f"{run_dir} is complete at iteration {iteration}; raise training.iterations to go on"
    start = f" from iteration {iteration}" if iteration else ""
    return f"Training in {run_dir}{start}, {iterations} iterations"


def line(record: Mapping[str, Any]) -> str:
    """Return a record as one line."""
    start = f"{record['iteration']:>8}  {record['kind']:<10}  "
    if record["kind"] == "train":
        return start + f"loss {record['loss']:.4g}  {terms(record)}"
    names = ("elbo", "reconstruction", "kl", "active_units", "skl")
    return start + "  ".join(f"{name} {record[name]:.4g}" for name in names)


def terms(record: Mapping[str, Any]) -> str:
    """Return the terms of a training record, unweighted."""
    return "  ".join(f"{name} {value:.4g}" for name, value in record["terms"].items())


@contextmanager
def metric_progress(*, quiet: bool) -> Iterator[MetricProgress]:
    """Return what hears of slow metrics: a bar on a terminal, lines elsewhere, or nothing."""
    out = console.stderr()
    if quiet:
        with handle_progress(ignore_progress):
            yield no_progress
        return
    warning = LongWait(out)
    if not out.is_terminal:
        lines = preparation.Lines(out)
        with handle_progress(lines.show):
            yield both(warning.hear, lines.show)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=out, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(metric: str, done: int, total: int) -> None:
            if metric not in tasks:
                tasks[metric] = progress.add_task(metric, total=total)
            progress.update(tasks[metric], completed=done, total=total)

        with handle_progress(preparation.Tasks(progress).show):
            yield both(warning.hear, show)


def both(first: MetricProgress, second: MetricProgress) -> MetricProgress:
    """Return what tells two listeners."""

    def tell_both(metric: str, done: int, total: int) -> None:
        first(metric, done, total)
        second(metric, done, total)

    return tell_both


@final
class LongWait:
    """Says once that nll will take long, and how to ask for less."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._is_said = False
        self._before, self._clock = 0, 0.0

    def hear(self, metric: str, done: int, total: int) -> None:
        """Judge by the last example; those kept from an earlier call take no time."""
        if metric != "nll" or self._is_said:
            return
        now = time.perf_counter()
        if done > self._before:
            left = (now - self._clock) / (done - self._before) * (total - done)
            self._is_said = left > LONG
            if self._is_said:
                self._say(left, total)
        self._before, self._clock = done, now

    def _say(self, left: float, total: int) -> None:
        self._out.print(
            f"nll of {total} examples takes {format_duration(left)} more. It may be interrupted: "
            "what is finished is kept. For less, --limit N (examples) or evaluation.nll_samples=N.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
