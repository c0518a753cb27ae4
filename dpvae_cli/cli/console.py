"""The terminal: results to stdout, everything else to stderr, errors without a traceback."""

import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

from dpvae_cli.cli.preparation import shown_on_demand
from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, UsageError
from dpvae_cli.foundation.strangers import visible

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")
UNBOUNDED = 10_000
NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+)?|-")
"""A number, perhaps with its error, or a dash where there is none."""


def stderr() -> "Console":
    """Return a console on stderr, made anew so that redirections are seen."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def result(text: str) -> None:
    """Print a result to stdout as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """Print a remark to stderr, with signs that a terminal would obey spelled out."""
    stderr().print(visible(text), markup=False)


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_stderr: bool = False,
) -> None:
    """Print a table to stdout: numbers to the right; wraps on a terminal, and nowhere else."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=None if title is None else Text(visible(title)),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    for position, column in enumerate(columns):
        cells = [row[position] for row in rows]
        is_numeric = all(map(NUMBER.fullmatch, cells))
        drawn.add_column(
            Text(visible(column)), justify="right" if is_numeric else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(highlight=False, stderr=to_stderr)
    if not console.is_terminal:
        console = Console(highlight=False, stderr=to_stderr, width=UNBOUNDED)
    console.print(drawn)


def fail(error: DpvaeError) -> None:
    """Print an error and what to do about it to stderr."""
    from rich.text import Text

    message = Text.assemble(("Error: ", "bold red"), visible(str(error)))
    if error.hint:
        message.append(visible(f"\n{error.hint}"))
    stderr().print(message)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors meant for the user into a message and an exit code; others stay tracebacks.

    Two of Python's own are the user's: a file that the system refuses, and too little memory.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        _print_anything()
        try:
            with shown_on_demand():
                return command(*args, **kwargs)
        except DpvaeError as error:
            fail(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(128 + signal.SIGINT) from error
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
        except (OSError, MemoryError, RuntimeError) as error:
            if (told := _for_the_user(error)) is None:
                raise
            fail(told)
            raise typer.Exit(told.exit_code) from error

    return run


def _print_anything() -> None:
    """Let stdout spell out what it cannot encode, such as the bytes of an odd file name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _for_the_user(error: Exception) -> DpvaeError | None:
    """Return what to tell of an error of Python's that is no mistake of ours, else None."""
    if isinstance(error, OSError) and error.filename is not None:
        return UsageError(f"{error.filename}: {error.strerror or error}")
    if isinstance(error, MemoryError) or "torch" in sys.modules:
        from dpvae_cli.foundation.allocation import HINT, says_full

        if says_full(error):
            return UsageError("there is not enough memory for this", hint=HINT)
    return None


def exit_code(error: DpvaeError) -> int:
    """Return the exit code of an error (docs/cli.md lists them)."""
    if isinstance(error, InterruptedRun):
        return 128 + error.signal_number
    return error.exit_code
