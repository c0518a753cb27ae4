"""Errors meant for the user: a message and a hint.

The command line prints both and exits with `exit_code` (documented in `docs/cli.md`). In Python the
hint is a note of the exception, with keyword arguments for the options of the command line.
"""

import re
from functools import partial
from typing import Any, ClassVar

KEYWORDS = {
    "best": "best=True",
    "data-root": "root",
    "from-previous": "mode='resume_previous'",
    "overwrite": "mode='overwrite'",
    "resume": "mode='resume'",
    "trust-features": "trust_features=True",
}
OPTION = re.compile(r"--(?:no-(?P<off>[a-z-]+)|(?P<name>[a-z][a-z-]*[a-z]))\b")


def in_python(hint: str) -> str:
    """Return a hint with keyword arguments for options: `--overwrite` becomes `mode='overwrite'`.

    A hint that names a whole command stays as it is.
    """
    if "dpvae " in hint:
        return hint

    def to_keyword(option: re.Match[str]) -> str:
        if option["off"]:
            return f"{option['off'].replace('-', '_')}=False"
        return KEYWORDS.get(option["name"], option["name"].replace("-", "_"))

    return OPTION.sub(to_keyword, hint)


class DpvaeError(Exception):
    """Base class of errors meant for the user; a metric or a run failed (exit code 1)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(in_python(hint))

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows in place of a traceback: the message and the hint."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]


class UntestedWarning(UserWarning):
    """Something may work and has not been tested."""


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
    """The file is a dpvae file of another format (exit code 4)."""

    def __init__(self, message: str, *, format: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.format = format


class DivergedError(DpvaeError):
    """A value in training is not finite (exit code 5)."""

    exit_code = 5


class InterruptedRun(DpvaeError):  # noqa: N818 - the user asked for it
    """Training stopped on a signal after saving a checkpoint (exit code 128 + signal number)."""

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the keyword arguments, too."""
        rebuild = partial(InterruptedRun, signal_number=self.signal_number, hint=self.hint)
        return rebuild, (str(self),)


class PeerFailedError(DpvaeError):
    """Another rank of the run failed or was interrupted, and has reported it."""

    def __init__(self, *, status: int = 1) -> None:
        super().__init__("another process of this run ended")
        self.status = status
