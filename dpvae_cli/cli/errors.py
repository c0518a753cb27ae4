"""What every command runs inside: errors become a message and an exit code, progress is shown."""

import functools
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.progress import ProgressDisplay
from dpvae_cli.foundation.errors import (
    DpvaeError,
    InterruptedRun,
    PeerFailedError,
    UntestedWarning,
    UsageError,
)
from dpvae_cli.foundation.memory import is_out_of_memory
from dpvae_cli.foundation.progress import handle_progress, ignore_progress
from dpvae_cli.foundation.text import expand_user

P = ParamSpec("P")
R = TypeVar("R")
DISTRIBUTED = ("train", "evaluate")
"""Commands that several processes may run together."""
WITHOUT_TORCH = ("ls", "cp")
LOADING = "Loading ..."
LESS_MEMORY = "Lower the batch size or the number of samples, or free some memory."


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print errors that a user can fix, and those of the machine, and exit with their code.

    All others stay tracebacks. `~` in paths is the home folder, also where the shell does not
    expand it, as in --out=~/x. Progress goes to stderr, unless the command has a true `quiet`.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        console.configure_encoding()
        kwargs.update({name: _expand_home(value) for name, value in kwargs.items()})
        is_quiet = bool(kwargs.get("quiet"))
        try:
            if command.__name__ not in WITHOUT_TORCH and not is_quiet:
                load_torch()
            is_shown = console.is_main_process() and not is_quiet
            with (
                own_warnings_as_notes(),
                ProgressDisplay() as display,
                handle_progress(display if is_shown else ignore_progress),
            ):
                if console.rank_and_world_size()[1] > 1:
                    value = _run_distributed(command, *args, **kwargs)
                else:
                    value = command(*args, **kwargs)
            sys.stdout.flush()
        except PeerFailedError as error:
            raise typer.Exit(error.status) from error
        except DpvaeError as error:
            print_error(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(128 + signal.SIGINT) from error
        except BrokenPipeError as error:
            console.detach_stdout()
            raise typer.Exit(1) from error
        except (OSError, MemoryError, RuntimeError) as error:
            translated = environment_error(error)
            if translated is None:
                raise
            console.detach_stdout()
            print_error(translated)
            raise typer.Exit(exit_code(translated)) from error
        return value

    return run


@contextmanager
def own_warnings_as_notes() -> Iterator[None]:
    """Print a warning of ours as one line, and all others as Python does."""
    with warnings.catch_warnings():
        show_as_python = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **to: Any) -> None:
            if issubclass(category, UntestedWarning):
                console.note(f"Note: {message}")
            else:
                show_as_python(message, category, *where, **to)

        warnings.showwarning = show
        yield


def _expand_home(value: Any) -> Any:
    """Expand `~` in a path or in each of a list of them; leave other values."""
    if isinstance(value, list):
        return [_expand_home(item) for item in value]
    return expand_user(value) if isinstance(value, Path) else value


def load_torch() -> None:
    """Import torch, which takes seconds; on a terminal say so meanwhile."""
    if "torch" in sys.modules or not sys.stderr.isatty():
        return
    sys.stderr.write(LOADING)
    sys.stderr.flush()
    import_module("torch")
    sys.stderr.write("\r" + " " * len(LOADING) + "\r")


def _run_distributed(command: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a command in one of several processes that torchrun or the like has started."""
    from dpvae_cli.foundation.distributed import process_group

    if command.__name__ not in DISTRIBUTED:
        if not console.is_main_process():
            raise PeerFailedError(status=UsageError.exit_code)
        raise UsageError(
            f"{command.__name__} runs in one process, not in {console.rank_and_world_size()[1]}",
            hint="Start it without torchrun: only dpvae train and dpvae eval are distributed.",
        )
    with process_group():
        return command(*args, **kwargs)


def print_error(error: DpvaeError) -> None:
    """Print an error and its hint to stderr."""
    from rich.text import Text

    message = Text.assemble(("Error: ", "bold red"), str(error))
    if error.hint:
        message.append(f"\n{error.hint}")
    console.stderr(for_errors=True).print(message)


def environment_error(error: OSError | MemoryError | RuntimeError) -> DpvaeError | None:
    """Return what to print for an error of the machine; None where it may be a bug."""
    if is_out_of_memory(error):
        reason = str(error).partition("\n")[0]
        return UsageError("memory ran out" + (f" ({reason})" if reason else ""), hint=LESS_MEMORY)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = error.strerror or str(error)
    if error.filename is None:
        return UsageError(f"reading or writing failed: {reason}")
    return UsageError(f"cannot use {error.filename}: {reason}")


def exit_code(error: DpvaeError) -> int:
    """Return the exit code of an error (docs/cli.md lists them)."""
    if isinstance(error, InterruptedRun):
        return 128 + error.signal_number
    return error.exit_code
