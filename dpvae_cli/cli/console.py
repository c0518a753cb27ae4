"""The terminal: results to stdout, everything else to stderr, errors without a traceback."""

import codecs
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, final

import typer

from dpvae_cli.cli.preparation import shown_on_demand
from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, PeerFailedError, UsageError
from dpvae_cli.foundation.memory import is_out_of_memory
from dpvae_cli.foundation.sanitize import escape_control_chars
from dpvae_cli.foundation.text_files import expand_user

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")
UNBOUNDED = 10_000
SHARED = ("train", "evaluate")
"""Commands that several processes may run together."""
INSTANT = ("ls", "cp")
"""Commands that do not need torch."""
LOADING = "Loading ..."
LESS_MEMORY = "Lower the batch size or the number of samples, or free some memory."
NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+)?|-")
"""A number, perhaps with its error, or a dash where there is none."""


def stderr(*, for_errors: bool = False) -> "Console":
    """Return a console on stderr, made anew so that redirections are seen.

    Of processes that share a run the first one alone is heard, but for errors.
    """
    from rich.console import Console

    quiet = not (for_errors or _is_main_process())
    return _escaping(Console)(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


@functools.cache
def _escaping(console: "type[Console]") -> "type[Console]":
    """Return a console that spells out control characters in all that it is given to print."""
    from rich.segment import Segment

    class EscapingConsole(console):  # type: ignore[misc]
        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **kwargs):
                text = segment.text if segment.control else escape_control_chars(segment.text)
                yield segment._replace(text=text)

    return EscapingConsole


def result(text: str) -> None:
    """Print a result to stdout; of processes that share a run the first one does."""
    if not _is_main_process():
        return
    text = escape_control_chars(text)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """Print a remark to stderr."""
    stderr().print(text, markup=False)


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_stderr: bool = False,
) -> None:
    """Print a table to stdout: numbers to the right; wraps on a terminal, and nowhere else.

    Where a terminal is so narrow that words would be cut, a line is a cell.
    """
    if not _is_main_process():
        return
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    # before widths are measured
    title = None if title is None else escape_control_chars(title)
    columns = [*map(escape_control_chars, columns)]
    rows = [[*map(escape_control_chars, row)] for row in rows]
    drawn = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    drawn.title = None if title is None else Text(title)
    for position, column in enumerate(columns):
        cells = [row[position] for row in rows]
        is_numeric = all(map(NUMBER.fullmatch, cells))
        drawn.add_column(Text(column), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = _escaping(Console)(highlight=False, stderr=to_stderr)
    if not console.is_terminal:
        console = _escaping(Console)(highlight=False, stderr=to_stderr, width=UNBOUNDED)
    unbounded = console.options.update_width(UNBOUNDED)
    if Measurement.get(console, unbounded, drawn).minimum > console.width:
        console.print(_stacked(title, columns, rows), markup=False)
    else:
        console.print(drawn)


def _stacked(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a narrow terminal: a line a cell, so that no number is cut in two."""
    width = max(map(len, columns))
    blocks = [
        "\n".join(f"{column:<{width}}  {cell}" for column, cell in zip(columns, row, strict=True))
        for row in rows
    ]
    return "\n\n".join([*([title] if title else []), *blocks])


def fail(error: DpvaeError) -> None:
    """Print an error and what to do about it to stderr."""
    from rich.text import Text

    message = Text.assemble(("Error: ", "bold red"), str(error))
    if error.hint:
        message.append(f"\n{error.hint}")
    stderr(for_errors=True).print(message)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors meant for the user, and what goes wrong around us, into a message and exit code.

    Others stay tracebacks. `~` in paths is the home folder, also where the shell leaves it, as in
    --out=~/x.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        speak_plainly()
        kwargs.update({name: _with_home(value) for name, value in kwargs.items()})
        try:
            if command.__name__ not in INSTANT and not kwargs.get("quiet"):
                load_torch()
            with shown_on_demand():
                if _launch()[1] > 1:
                    done = _together(command, *args, **kwargs)
                else:
                    done = command(*args, **kwargs)
            sys.stdout.flush()
        except PeerFailedError as error:
            raise typer.Exit(error.status) from error
        except DpvaeError as error:
            fail(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(128 + signal.SIGINT) from error
        except BrokenPipeError as error:
            _give_up_stdout()
            raise typer.Exit(1) from error
        except (OSError, MemoryError, RuntimeError) as error:
            told = surroundings(error)
            if told is None:
                raise
            _give_up_stdout()
            fail(told)
            raise typer.Exit(exit_code(told)) from error
        return done

    return run


def _with_home(value: Any) -> Any:
    """Expand `~` in a path or in each of a list of them; leave other values."""
    if isinstance(value, list):
        return [_with_home(item) for item in value]
    return expand_user(value) if isinstance(value, Path) else value


def _launch() -> tuple[int, int]:
    """Return rank and world size; torch is imported only where a launcher has set them."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    from dpvae_cli.foundation.distributed import launched_rank, launched_world_size

    return launched_rank(), launched_world_size()


def _is_main_process() -> bool:
    return _launch()[0] == 0


def load_torch() -> None:
    """Import torch, which takes seconds; on a terminal say so meanwhile."""
    if "torch" in sys.modules or not sys.stderr.isatty():
        return
    sys.stderr.write(LOADING)
    sys.stderr.flush()
    import_module("torch")
    sys.stderr.write("\r" + " " * len(LOADING) + "\r")


def _together(command: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a command in one of several processes that torchrun, or anything like it, has started."""
    from dpvae_cli.foundation.distributed import process_group

    if command.__name__ not in SHARED:
        if not _is_main_process():
            raise PeerFailedError(status=UsageError.exit_code)
        raise UsageError(
            f"{command.__name__} runs in one process, and here are {_launch()[1]}",
            hint="Leave torchrun out: dpvae train and dpvae eval alone share their work.",
        )
    with process_group():
        return command(*args, **kwargs)


def surroundings(error: OSError | MemoryError | RuntimeError) -> DpvaeError | None:
    """Return what to say of an error of the machine, not of ours; None where it may be ours."""
    if is_out_of_memory(error):
        reason = str(error).partition("\n")[0]
        return UsageError("memory ran out" + (f" ({reason})" if reason else ""), hint=LESS_MEMORY)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = error.strerror or str(error)
    if error.filename is None:
        return UsageError(f"the system refuses to read or write: {reason}")
    return UsageError(f"cannot use {error.filename}: {reason}")


def _give_up_stdout() -> None:
    """Let nothing more be written to a stdout that takes nothing, not at the very end either."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Let streams that the shell has closed write nowhere, lest a file takes their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def speak_plainly() -> None:
    """Let stdout write what its encoding does not have as the bytes it came from, or escaped.

    Without it a path with an accent ends a command in a locale that knows ASCII alone.
    """
    codecs.register_error("dpvae", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="dpvae")


def outlive_stderr() -> None:
    """Go on when stderr takes nothing any more: its reader is gone, or its terminal closed."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.flush()
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Lossy(sys.stderr.fileno(), "wb", closefd=False)),
            encoding=sys.stderr.encoding,
            errors=sys.stderr.errors,
            line_buffering=True,
        )


@final
class _Lossy(io.FileIO):
    """A file for remarks: what cannot be written is lost."""

    def write(self, data: Any, /) -> int:
        """Write, or not."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def exit_code(error: DpvaeError) -> int:
    """Return the exit code of an error (docs/cli.md lists them)."""
    if isinstance(error, InterruptedRun):
        return 128 + error.signal_number
    return error.exit_code
