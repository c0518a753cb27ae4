"""Every error a user can meet: what went wrong, where, and what to type next.

The command line prints `str(error)` and its `hint`, then exits with `exit_code`; the library
raises and never prints. Exit codes are documented in `docs/cli.md`. In Python the hint is a note of
the exception, with the options of the command line as keyword arguments.
"""

import re
from typing import Any, ClassVar

FLAGS = "best|from-previous|overwrite|resume|trust-features"
OPTION = re.compile(rf"--(?:(?P<flag>{FLAGS})|no-(?P<off>[a-z-]+)|(?P<name>[a-z][a-z-]*[a-z]))\b")


def in_python(hint: str) -> str:
    """Return a hint with keyword arguments for options: `--overwrite` becomes `overwrite=True`.

    A hint that names a whole command stays as it is.
    """
    return hint if "dpvae " in hint else OPTION.sub(_keyword, hint)


def _keyword(option: re.Match[str]) -> str:
    if option["flag"]:
        keyword = f"{option['flag']}=True"
    elif option["off"]:
        keyword = f"{option['off']}=False"
    else:
        keyword = option["name"]
    return keyword.replace("-", "_")


class DpvaeError(Exception):
    """Base of all errors meant for the user: a metric or a cell failed (exit code 1)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(in_python(hint))


class UsageError(DpvaeError):
    """The user's input is wrong, or a run folder is in use (exit code 2)."""

    exit_code = 2


class MissingError(DpvaeError):
    """Data or weights are missing (exit code 3)."""

    exit_code = 3


class CheckpointError(DpvaeError):
    """A checkpoint cannot be used (exit code 4)."""

    exit_code = 4


class WrongFileTypeError(CheckpointError):
    """The file is one of ours, but of another kind than was asked for."""

    def __init__(self, message: str, *, format: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.format = format


class DivergedError(DpvaeError):
    """Training met a value that is not finite (exit code 5)."""

    exit_code = 5


class InterruptedRun(DpvaeError):  # noqa: N818 - the user's wish, no error
    """Training stopped on a signal after saving a checkpoint (exit code 128 + signal number)."""

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell pickle of the keyword, so that the error can cross processes."""
        return _interrupted, (str(self), self.signal_number, self.hint)


class PeerFailedError(DpvaeError):
    """Another process of the run failed, or all stopped together; there is nothing more to say."""

    def __init__(self, *, status: int = 1) -> None:
        super().__init__("another process of this run ended")
        self.status = status


def _interrupted(message: str, signal_number: int, hint: str | None) -> InterruptedRun:
    return InterruptedRun(message, signal_number=signal_number, hint=hint)
