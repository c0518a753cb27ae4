"""The terminal: results go to stdout, everything else to stderr."""

import codecs
import functools
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

from dpvae_cli.foundation.text import escape_control_chars

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED = 10_000
NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+)?|-")
"""A number, perhaps with its error, or a dash where there is none."""


def rank_and_world_size() -> tuple[int, int]:
    """Return rank and world size; torch is imported only where a launcher has set them."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    from dpvae_cli.foundation.distributed import launched_rank, launched_world_size

    return launched_rank(), launched_world_size()


def is_main_process() -> bool:
    """Whether this process prints."""
    return rank_and_world_size()[0] == 0


def stderr(*, for_errors: bool = False) -> "Console":
    """Return a new console on stderr, so that redirections are seen.

    In a distributed run only the main process prints, except errors.
    """
    from rich.console import Console

    quiet = not (for_errors or is_main_process())
    return _escaping(Console)(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


@functools.cache
def _escaping(console: "type[Console]") -> "type[Console]":
    """Return a console class that escapes control characters in all that it prints."""
    from rich.segment import Segment

    class EscapingConsole(console):  # type: ignore[misc]
        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **kwargs):
                text = segment.text if segment.control else escape_control_chars(segment.text)
                yield segment._replace(text=text)

    return EscapingConsole


def result(text: str) -> None:
    """Print a result to stdout, in the main process only."""
    if not is_main_process():
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
    """Print a table to stdout, numbers aligned right; only a terminal wraps lines.

    Where a terminal is so narrow that words would be cut, each cell has a line.
    """
    if not is_main_process():
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
    grid = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    grid.title = None if title is None else Text(title)
    for position, column in enumerate(columns):
        cells = [row[position] for row in rows]
        is_numeric = all(map(NUMBER.fullmatch, cells))
        grid.add_column(Text(column), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console = _escaping(Console)(highlight=False, stderr=to_stderr)
    if not console.is_terminal:
        console = _escaping(Console)(highlight=False, stderr=to_stderr, width=UNBOUNDED)
    unbounded = console.options.update_width(UNBOUNDED)
    if Measurement.get(console, unbounded, grid).minimum > console.width:
        length = max(map(len, columns))
        blocks = [
            "\n".join(f"{name:<{length}}  {cell}" for name, cell in zip(columns, row, strict=True))
            for row in rows
        ]
        console.print("\n\n".join([*([title] if title else []), *blocks]), markup=False)
    else:
        console.print(grid)


def detach_stdout() -> None:
    """Send what is left for a closed stdout to /dev/null, so that exiting raises nothing."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Open /dev/null for streams that the shell closed, so that no file gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def configure_encoding() -> None:
    """Make stdout and stderr fall back to surrogateescape, then to backslashreplace.

    Without it a path with an accent fails in an ASCII locale.
    """
    codecs.register_error("dpvae", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="dpvae")


def survive_closed_stderr() -> None:
    """Drop what goes to stderr once its reader is gone or its terminal closed."""
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
    """A file that drops what cannot be written."""

    def write(self, data: Any, /) -> int:
        """Write, or drop."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
