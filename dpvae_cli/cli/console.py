"""The terminal: results to stdout, everything else to stderr, errors without a traceback."""

import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

from dpvae_cli.cli.preparation import shown_on_demand
from dpvae_cli.foundation import launch
from dpvae_cli.foundation.errors import DpvaeError, EndedByAnother, InterruptedRun, UsageError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")
UNBOUNDED = 10_000
SHARED = ("train", "evaluate")
"""Commands that several processes may run together."""
NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+)?|-")
"""A number, perhaps with its error, or a dash where there is none."""


def stderr(*, for_errors: bool = False) -> "Console":
    """Return a console on stderr, made anew so that redirections are seen.

    Of processes that share a run the first one alone is heard, but for errors.
    """
    from rich.console import Console

    quiet = not (for_errors or launch.is_first())
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


def result(text: str) -> None:
    """Print a result to stdout as it is; of processes that share a run the first one does."""
    if not launch.is_first():
        return
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """Print a remark to stderr as it is."""
    stderr().print(text, markup=False)


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_stderr: bool = False,
) -> None:
    """Print a table to stdout: numbers to the right; wraps on a terminal, and nowhere else."""
    if not launch.is_first():
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        cells = [row[position] for row in rows]
        is_numeric = all(map(NUMBER.fullmatch, cells))
        drawn.add_column(Text(column), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False, stderr=to_stderr)
    if not console.is_terminal:
        console = Console(highlight=False, stderr=to_stderr, width=UNBOUNDED)
    console.print(drawn)


def fail(error: DpvaeError) -> None:
    """Print an error and what to do about it to stderr."""
    from rich.text import Text

    message = Text.assemble(("Error: ", "bold red"), str(error))
    if error.hint:
        message.append(f"\n{error.hint}")
    stderr(for_errors=True).print(message)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors meant for the user into a message and an exit code; others stay tracebacks."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with shown_on_demand():
                if launch.launched():
                    return _together(command, *args, **kwargs)
                return command(*args, **kwargs)
        except EndedByAnother as error:
            raise typer.Exit(error.status) from error
        except DpvaeError as error:
            fail(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(128 + signal.SIGINT) from error
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error

    return run


def _together(command: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a command in one of several processes that torchrun, or anything like it, has started."""
    from dpvae_cli.foundation.joining import joined

    if command.__name__ not in SHARED:
        if not launch.is_first():
            raise EndedByAnother(status=UsageError.exit_code)
        raise UsageError(
            f"{command.__name__} runs in one process, and here are {launch.world_size()}",
            hint="Leave torchrun out: dpvae train and dpvae eval alone share their work.",
        )
    with joined():
        return command(*args, **kwargs)


def exit_code(error: DpvaeError) -> int:
    """Return the exit code of an error (docs/cli.md lists them)."""
    if isinstance(error, InterruptedRun):
        return 128 + error.signal_number
    return error.exit_code
