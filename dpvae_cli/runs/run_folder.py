"""The run folder: the files of one run, its lock, and what may be written into it."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch
from filelock import FileLock, Timeout

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import (
    HIDDEN_PREFIX,
    copy_file,
    link_to,
    remove_stale_temporaries,
    write_json,
    write_text,
)
from dpvae_cli.foundation.text_files import read_json
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.runs import replacement
from dpvae_cli.runs.fallback import BEST, CURRENT, PREVIOUS
from dpvae_cli.runs.replacement import ENVIRONMENT, RECIPE
from dpvae_cli.version import __version__

LOCK, UNFINISHED = f"{HIDDEN_PREFIX}lock", f"{HIDDEN_PREFIX}unfinished"
"""The lock, and a mark until a command that fills an empty folder at once is done."""
NOT_EMPTY_HINT = (
    "Add --resume to go on with it, --overwrite to start over, or --run-dir for another folder."
)


@final
class RunFolder:
    """The files of one run: recipe, checkpoints, metrics, environment, results and pictures.

    A run that replaces another one is written into a hidden folder inside it (`files`), and
    replaces the old run when it has a checkpoint (`commit`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: BinaryIO | None = None
        self._set_files(path)

    def _set_files(self, folder: Path) -> None:
        self.files = folder
        self.recipe = folder / RECIPE
        self.checkpoint = folder / CURRENT
        self.previous = folder / PREVIOUS
        self.best = folder / BEST
        self.metrics_log = folder / "metrics.jsonl"
        self.environment = folder / ENVIRONMENT
        self.metrics = folder / "metrics.json"
        self.error_terms = folder / "metrics_terms.npz"
        self.errors = folder / "errors.log"
        self.fit = folder / "fit.json"
        self.samples = folder / "samples.png"
        self.comparison = folder / "fit.png"

    @property
    def is_staged(self) -> bool:
        """Tell whether the run has still to replace another one."""
        return self.files != self.path

    def prepare(
        self, *, resume: bool = False, overwrite: bool = False, hint: str = NOT_EMPTY_HINT
    ) -> None:
        """Check that a run may be written here, after cleaning up what killed processes left.

        Raises:
            UsageError: the folder is not empty and neither `resume` nor `overwrite` is given, or it
                holds files that no run wrote.
        """
        replacement.finish_commit(self.path)
        remove_stale_temporaries(self.path)
        if resume:
            self.finish()
        has_files = any(not p.name.startswith(HIDDEN_PREFIX) for p in self.path.iterdir())
        if overwrite:
            replacement.check_only_run_files(self.path, is_run=self.is_run())
            if has_files:
                self.stage()
        elif has_files and not resume:
            raise UsageError(f"run folder {self.path} is not empty", hint=hint)

    def stage(self) -> None:
        """Write what follows into a hidden folder, until `commit`."""
        self._set_files(replacement.stage(self.path))

    @property
    def is_unfinished(self) -> bool:
        """Whether all files here are of a command that was killed while it committed them."""
        return (self.path / UNFINISHED).exists()

    def mark_unfinished(self) -> None:
        """Let the command that is about to commit start over if it is killed before `finish`."""
        (self.path / UNFINISHED).touch()

    def finish(self) -> None:
        """Remove the mark of `mark_unfinished`: from now on the run is replaced on request only."""
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def commit(self) -> None:
        """Let a staged run, which has a checkpoint, replace the one in the folder."""
        if self.is_staged:
            replacement.commit(self.path)
            self._set_files(self.path)

    def is_run(self) -> bool:
        """Tell whether a run wrote the folder's recipe, not its user."""
        if "dpvae" in read_json(self.environment):
            return self.recipe.is_file()
        with suppress(OSError, UsageError, ValueError):
            return self.recipe.read_text("utf-8") == to_yaml(load_recipe(self.recipe))
        return False

    def copy_metrics_log(self, other: "RunFolder") -> None:
        """Start the metrics.jsonl of another run with a copy of this one's, where there is one."""
        if self.metrics_log.is_file():
            copy_file(self.metrics_log, other.metrics_log)

    def rollback(self) -> None:
        """Replace checkpoint.pt by the previous checkpoint.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            link_to(self.checkpoint, to=self.previous)
        except OSError as error:
            raise UsageError(f"cannot write {self.checkpoint}: {error.strerror}") from None

    def write_start(self, recipe: Recipe, *, device: torch.device, processes: int = 1) -> None:
        """Write recipe.yaml and environment.json."""
        write_text(self.recipe, to_yaml(recipe))
        write_json(self.environment, environment_info(device) | {"processes": processes})

    @contextmanager
    def locked(self, *, wanted: bool = True) -> Iterator[None]:
        """Create the folder and lock it; of the ranks of a run only one wants to.

        The lock file is inside the folder, so that all names of the folder share it. A folder that
        is created here is removed again where no run began.

        Raises:
            UsageError: another process holds it, it is a file, or it cannot be made.
        """
        if not wanted:
            yield
            return
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file, a run needs a folder")
        lock = self.path / LOCK
        is_new, is_first = not self.path.exists(), not lock.exists()
        held = FileLock(lock)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=0)
            handle = lock.open("rb")
        except Timeout:
            raise UsageError(
                f"run folder {self.path} is in use by another process",
                hint="Wait for it, or name another folder with --run-dir.",
            ) from None
        except OSError as error:
            raise UsageError(f"cannot write {lock}: {error.strerror}") from None
        self._handle = handle
        try:
            yield
        finally:
            self._handle = None
            handle.close()
            with suppress(OSError):
                if self.is_staged:
                    self._set_files(self.path)
                    replacement.finish_commit(self.path)
                if is_first and not self.environment.is_file():
                    lock.unlink()
                    if is_new:
                        self.path.rmdir()
            held.release()

    def check_lock(self) -> None:
        """Check that the folder still is where it was locked, with the same lock file.

        Raises:
            UsageError: it was moved or deleted, or another process may have locked it.
        """
        if self._handle is None:
            return
        with suppress(OSError):
            held = os.fstat(self._handle.fileno())
            if os.path.samestat(held, (self.path / LOCK).stat()):
                return
        raise UsageError(
            f"run folder {self.path} was moved or deleted, or lost its lock: stopped",
            hint="Where the folder is still there, go on from its last checkpoint: "
            "dpvae train --resume --run-dir FOLDER",
        )


def environment_info(device: torch.device) -> dict[str, Any]:
    """Return versions, device and threads: what a number may depend on beside the recipe."""
    return {
        "dpvae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
