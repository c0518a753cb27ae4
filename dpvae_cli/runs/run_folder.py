"""The run folder: the files of one run, its lock, and what may be written into it."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch
from filelock import FileLock, Timeout

from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.files import (
    HIDDEN_PREFIX,
    TEMPORARY_PREFIX,
    copy_file,
    link_to,
    remove_stale_temporaries,
    sync_folder,
    write_json,
    write_text,
)
from dpvae_cli.foundation.text import expand_user, read_json, read_text
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.loading import to_yaml
from dpvae_cli.version import __version__

LOCK, UNFINISHED = f"{HIDDEN_PREFIX}lock", f"{HIDDEN_PREFIX}unfinished"
"""The lock, and a mark until a command that fills an empty folder at once is done."""
NOT_EMPTY_HINT = (
    "Add --resume to continue it, --overwrite to start over, or --run-dir for another folder."
)
RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
STAGED = f"{HIDDEN_PREFIX}new"
"""The hidden folder of the new run."""
RUN_FILE = re.compile(
    r"""recipe\.yaml | environment\.json | metrics\.jsonl? | metrics_terms\.npz | fit\.(json|png)
    | cell\.json | error\.txt | errors\.log | samples\.png | (portrait|gallery)\.npz
    | trackers\.json | (mlflow|wandb)/.+
    | diagnosis\.(html|json) | explore\.html
    | (checkpoint(\.previous)?|best)\.(pt|encodings\.npz|nll\.npz)
    | tensorboard/events\.out\.tfevents\.[^/]+
    | samples/(prior|low_posterior|high_posterior)(\.png|\.npz|/\d{6}\.png)
    | (reconstructions|codes)/(train|validation|test)\.(png|npz)
    | traversals/((line|sweep|grid|z0?|both)-?)+(-\d+)?\.(png|npz|gif|json)""",
    re.VERBOSE,
)
"""The files that dpvae writes into a run folder, all that `--overwrite` ever deletes."""
SUBFOLDERS = ("tensorboard", "mlflow", "wandb", "samples", "reconstructions", "codes", "traversals")
MAX_LISTED = 5
"""Files that an error names."""
CURRENT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint.previous.pt", "best.pt"

RUNS = Path("runs")
LATEST = "latest"
MAX_PATH_BYTES = 2**15


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
        finish_commit(self.path)
        remove_stale_temporaries(self.path)
        if resume:
            self.finish()
        has_files = any(not p.name.startswith(HIDDEN_PREFIX) for p in self.path.iterdir())
        if overwrite:
            check_only_run_files(self.path, is_run=self.is_run())
            if has_files:
                self.stage()
        elif has_files and not resume:
            raise UsageError(f"run folder {self.path} is not empty", hint=hint)

    def stage(self) -> None:
        """Write what follows into a hidden folder, until `commit`.

        Raises:
            UsageError: it cannot be made.
        """
        staged = self.path / STAGED
        try:
            staged.mkdir()
        except OSError as error:
            raise UsageError(f"cannot make {staged}: {error.strerror}") from None
        self._set_files(staged)

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
            self.recipe.replace(self.path / RECIPE)
            sync_folder(self.path)
            finish_commit(self.path)
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
    def lock(self, *, wanted: bool = True) -> Iterator[None]:
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
                    finish_commit(self.path)
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


def finish_commit(folder: Path) -> None:
    """Complete a commit that was interrupted, or delete a staged run that was not committed.

    As long as the staged environment.json is there, files of the old run are being deleted; after
    that the staged files are moved, the checkpoint last.
    """
    staged = folder / STAGED
    if not staged.is_dir():
        return
    if (staged / RECIPE).exists() or not (staged / CURRENT).exists():
        (staged / CURRENT).unlink(missing_ok=True)  # first: without it nothing is committed
        shutil.rmtree(staged)
        return
    if (staged / ENVIRONMENT).exists():
        _delete_run(folder)
        (staged / ENVIRONMENT).replace(folder / ENVIRONMENT)
    for path in sorted(staged.iterdir(), key=lambda path: path.name == CURRENT):
        path.replace(folder / path.name)
    staged.rmdir()
    sync_folder(folder)


def _delete_run(folder: Path) -> None:
    """Delete the files of a run but its recipe and checkpoint, which are replaced by renaming."""
    for name in list_files(folder):
        if RUN_FILE.fullmatch(name) and name not in (RECIPE, CURRENT):
            (folder / name).unlink()
    for place in (folder / name for name in SUBFOLDERS):
        for inner in (*sorted(place.rglob("*/"), reverse=True), place):
            with suppress(OSError):
                inner.rmdir()


def list_files(folder: Path) -> list[str]:
    """Return the visible files of a run folder, relative to it; other folders count as one."""
    names = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(HIDDEN_PREFIX):
            continue
        if path.is_dir() and not path.is_symlink() and path.name in SUBFOLDERS:
            inside = (p for p in path.rglob("*") if p.is_symlink() or not p.is_dir())
            names += [p.relative_to(folder).as_posix() for p in inside]
        else:
            names.append(path.name)
    return sorted(names)


def check_only_run_files(folder: Path, *, is_run: bool) -> None:
    """Check that a folder holds nothing but the files of a run.

    Raises:
        UsageError: it does; names the files.
    """
    names = list_files(folder)
    others = [name for name in names if not RUN_FILE.fullmatch(name)] if is_run else names
    if others:
        more = f" and {len(others) - MAX_LISTED:,} more" if len(others) > MAX_LISTED else ""
        raise UsageError(
            f"{folder} holds files that no run wrote, --overwrite will not delete them: "
            f"{', '.join(others[:MAX_LISTED])}{more}",
            hint="Move them away, or name another folder.",
        )


def default_run_dir(recipe: Recipe) -> Path:
    """Return runs/<recipe>-<prior>-seed<k>, with -fit_<prior> where one is fitted afterwards."""
    return RUNS / recipe.run_name


def follow_links(path: Path | str) -> Path:
    """Return the folder or file that a path leads to; a path without links stays as it is.

    Raises:
        UsageError: a link leads to itself.
    """
    path = expand_user(path)
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"{path} is a link that leads to itself", hint="Remove it.") from None
    if real == path.absolute():
        return path
    here = Path.cwd()
    return real.relative_to(here) if real.is_relative_to(here) else real


def read_latest(path: Path | str) -> Path:
    """Return the run folder that runs/latest names if it is a file, else the path."""
    path = Path(path)
    if path.name == LATEST and path.is_file():
        with suppress(OSError, ValueError):
            return path.parent / read_text(path, limit=MAX_PATH_BYTES).strip()
    return path


def resolve_run_dir(path: Path | str) -> Path:
    """Return the run folder that a path means, links followed, for a run to be written into it.

    Raises:
        UsageError: it is runs/latest, which names the latest run, and there is none.
    """
    path = read_latest(path)
    link = path.absolute()
    is_latest = link.name == LATEST and link.parent.resolve() == RUNS.resolve()
    if is_latest and not link.is_dir():
        raise UsageError(
            f"{path} names the latest run, and there is none", hint="Name another folder."
        )
    return follow_links(path)


def update_latest_link(run_dir: Path) -> None:
    """Let runs/latest name `run_dir`: a link, or where none can be made a file with the path."""
    link = RUNS / f"{TEMPORARY_PREFIX}latest"
    with suppress(OSError):
        RUNS.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        target = run_dir.resolve()
        with suppress(ValueError):  # on another drive
            target = Path(os.path.relpath(target, RUNS.resolve()))
        try:
            link.symlink_to(target)
        except (OSError, NotImplementedError):
            link.write_text(f"{target}\n", encoding="utf-8")
        link.replace(RUNS / LATEST)
    with suppress(OSError):
        link.unlink(missing_ok=True)


def latest_run_dir() -> Path:
    """Return the newest run's folder.

    Raises:
        CheckpointError: there is none.
    """
    link = read_latest(RUNS / LATEST)
    if not link.is_dir():
        raise CheckpointError(
            f"no checkpoint was named and there is no {RUNS / LATEST}",
            hint="Name a checkpoint or a run folder, or train first: dpvae train beta_h_moons.",
        )
    return follow_links(link)
