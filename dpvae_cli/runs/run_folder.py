"""The run folder: where a run's files are, who may write them, and which run is the latest."""

import os
import platform
import re
import shlex
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
from dpvae_cli.foundation.text_files import expand_user, read_json
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.fallback import BEST, CURRENT, PREVIOUS
from dpvae_cli.version import __version__

RUNS = Path("runs")
LATEST = "latest"
RECIPE, ENVIRONMENT = "recipe.yaml", "environment.json"
LOCK, STAGED, UNFINISHED = (f"{HIDDEN_PREFIX}{name}" for name in ("lock", "new", "unfinished"))
"""What a run folder holds beside the run: its lock, a new run until that has a checkpoint, and a
mark until the command that filled an empty folder at one go is done."""
RUN_FILE = re.compile(
    r"""recipe\.yaml | environment\.json | metrics\.jsonl? | metrics_terms\.npz | fit\.(json|png)
    | cell\.json | error\.txt | errors\.log | samples\.png | (portrait|gallery)\.npz
    | diagnosis\.(html|json)
    | (checkpoint(\.previous)?|best)\.(pt|encodings\.npz|nll\.npz)
    | tensorboard/events\.out\.tfevents\.[^/]+
    | samples/(prior|low_posterior|high_posterior)(\.png|\.npz|/\d{6}\.png)
    | (reconstructions|codes)/(train|validation|test)\.(png|npz)
    | traversals/((line|sweep|grid|pairs|z0?|both)-?)+(-\d+)?\.(png|npz|gif|json)""",
    re.VERBOSE,
)
"""The files that dpvae writes into a run folder, all that `--overwrite` ever deletes."""
SUBFOLDERS = ("tensorboard", "samples", "reconstructions", "codes", "traversals")
MAX_LISTED = 5
"""So many files are named in an error."""


NOT_EMPTY_HINT = (
    "Add --resume to go on with it, --overwrite to start over, or --run-dir for another folder."
)


@final
class RunFolder:
    """The files of one run: recipe, checkpoints, metrics, environment, results and pictures.

    A run that replaces another one is written into a hidden folder in it, and takes its place when
    it has a checkpoint (`commit`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: BinaryIO | None = None
        self._place(path)

    def _place(self, folder: Path) -> None:
        """Say where the files of the run are."""
        self._files = folder
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
    def files(self) -> Path:
        """Return where the files of the run are: the folder, or a hidden one in it."""
        return self._files

    @property
    def is_staged(self) -> bool:
        """Tell whether the run has still to take the place of another one."""
        return self._files != self.path

    def prepare(
        self, *, resume: bool = False, overwrite: bool = False, hint: str = NOT_EMPTY_HINT
    ) -> None:
        """Refuse a folder with files in it unless told to go on or to start over.

        What processes that were killed left is put in order first.

        Raises:
            UsageError: the folder is not empty, or holds files that are no run's.
        """
        if resume and overwrite:
            raise UsageError("--resume and --overwrite exclude each other")
        self._finish_commit()
        remove_stale_temporaries(self.path)
        if resume:
            self.finish()
        if overwrite:
            self._check_only_ours()
        elif not resume and self._has_files():
            raise UsageError(f"run folder {self.path} is not empty", hint=hint)
        if overwrite and self._has_files():
            self.stage()

    def stage(self) -> None:
        """Write what follows into a hidden folder, until `commit`."""
        staged = self.path / STAGED
        try:
            staged.mkdir()
        except OSError as error:
            raise UsageError(f"cannot make {staged}: {error.strerror}") from None
        self._place(staged)

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
        """Let a staged run, which has a checkpoint, take the place of the one that is there.

        The moment when its recipe is renamed decides: a process that is killed before leaves the
        old run whole, one that is killed after it leaves the new one, and `prepare` does the rest.
        """
        if self.is_staged:
            self.recipe.replace(self.path / RECIPE)
            sync_folder(self.path)
            self._finish_commit()
            self._place(self.path)

    def _finish_commit(self) -> None:
        """Do what is left to do of a commit, or drop a staged run that had not come to it.

        While the staged environment.json is there, the old run's files are being deleted; then the
        staged files are moved, the checkpoint last.
        """
        staged = self.path / STAGED
        if not staged.is_dir():
            return
        if (staged / RECIPE).exists() or not (staged / CURRENT).exists():
            (staged / CURRENT).unlink(missing_ok=True)  # first: without it nothing is committed
            shutil.rmtree(staged)
            return
        if (staged / ENVIRONMENT).exists():
            self._delete_old()
            (staged / ENVIRONMENT).replace(self.path / ENVIRONMENT)
        for path in sorted(staged.iterdir(), key=lambda path: path.name == CURRENT):
            path.replace(self.path / path.name)
        staged.rmdir()
        sync_folder(self.path)

    def _delete_old(self) -> None:
        """Delete the files of a run that is replaced; its recipe and checkpoint are moved over."""
        for name in self._names():
            if RUN_FILE.fullmatch(name) and name not in (RECIPE, CURRENT):
                (self.path / name).unlink()
        for place in (self.path / name for name in SUBFOLDERS):
            for folder in (*sorted(place.rglob("*/"), reverse=True), place):
                with suppress(OSError):
                    folder.rmdir()

    def _names(self) -> list[str]:
        """Return the files of the folder, relative to it; folders that are none of ours as one."""
        names = []
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.name.startswith(HIDDEN_PREFIX):
                continue
            if path.is_dir() and not path.is_symlink() and path.name in SUBFOLDERS:
                inside = (p for p in path.rglob("*") if p.is_symlink() or not p.is_dir())
                names += [p.relative_to(self.path).as_posix() for p in inside]
            else:
                names.append(path.name)
        return sorted(names)

    def _check_only_ours(self) -> None:
        """Refuse to replace a folder that holds anything that is not a run's.

        Raises:
            UsageError: names the files.
        """
        names = self._names()
        others = [name for name in names if not RUN_FILE.fullmatch(name)]
        if names and not self.is_run():
            others = names
        if others:
            more = f" and {len(others) - MAX_LISTED:,} more" if len(others) > MAX_LISTED else ""
            raise UsageError(
                f"{self.path} holds files that no run wrote, --overwrite will not delete them: "
                f"{', '.join(others[:MAX_LISTED])}{more}",
                hint="Move them away, or name another folder.",
            )

    def is_run(self) -> bool:
        """Tell whether the folder is a run's, and its recipe not one that somebody put there."""
        if "dpvae" in read_json(self.environment):
            return self.recipe.is_file()
        with suppress(OSError, UsageError, ValueError):
            return self.recipe.read_text("utf-8") == to_yaml(Recipe.load(self.recipe))
        return False

    def _has_files(self) -> bool:
        return any(not path.name.startswith(HIDDEN_PREFIX) for path in self.path.iterdir())

    def copy_metrics_log(self, other: "RunFolder") -> None:
        """Let another run begin with this one's metrics.jsonl, where there is one."""
        if self.metrics_log.is_file():
            copy_file(self.metrics_log, other.metrics_log)

    def rollback(self) -> None:
        """Let checkpoint.pt be the one before it.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            link_to(self.checkpoint, to=self.previous)
        except OSError as error:
            raise UsageError(f"cannot write {self.checkpoint}: {error.strerror}") from None

    @contextmanager
    def locked(self, *, wanted: bool = True) -> Iterator[None]:
        """Make the folder and hold it; those that share a run hold it once.

        The lock lies in the folder, so it is one whatever the folder is called. A folder that was
        not there is removed again where no run began.

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
                    self._place(self.path)
                    self._finish_commit()
                if is_first and not self.environment.is_file():
                    lock.unlink()
                    if is_new:
                        self.path.rmdir()
            held.release()

    def check_lock(self) -> None:
        """Raise where the folder was moved or deleted, or its lock replaced, since it was locked.

        Raises:
            UsageError: says where the run is now, and what of it was saved.
        """
        if self._handle is None:
            return
        with suppress(OSError):
            held = os.fstat(self._handle.fileno())
            if os.path.samestat(held, (self.path / LOCK).stat()):
                return
        if (place := _current_folder(self._handle)) is not None:
            what = f"was moved to {place}"
        elif self.path.is_dir():
            place, what = self.path, "lost its lock, so that another process may train it"
        else:
            what = "was moved or deleted"
        saved, hint = _describe_saved(place)
        raise UsageError(f"run folder {self.path} {what}: stopped. {saved}", hint=hint)

    def write_start(self, recipe: Recipe, *, device: torch.device, processes: int = 1) -> None:
        """Write recipe.yaml and environment.json."""
        write_text(self.recipe, to_yaml(recipe))
        write_json(self.environment, environment_info(device) | {"processes": processes})


def default_run_dir(recipe: Recipe) -> Path:
    """Return runs/<recipe>-<prior>-seed<k>, with -fit_<prior> where one is fitted afterwards."""
    return RUNS / recipe.run_name


def _current_folder(file: BinaryIO) -> Path | None:
    """Return the folder in which an open file lies now; None if it was deleted, or beside Linux."""
    try:
        path = Path(f"/proc/self/fd/{file.fileno()}").readlink()
    except OSError:
        return None
    return path.parent if path.exists() else None


def _describe_saved(place: Path | None) -> tuple[str, str]:
    """Return what was saved in a folder, and what to type next."""
    with suppress(CheckpointError):
        if place is not None:
            iteration = checkpoints.read_checkpoint(place / CURRENT).iteration
            return (
                f"The state at iteration {iteration:,} is saved in {place / CURRENT}.",
                f"Go on with: dpvae train --resume --run-dir {shlex.quote(str(place))}",
            )
    return "No checkpoint is left in it.", "Train again, in a folder that stays."


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


def resolve_run_dir(path: Path | str) -> Path:
    """Return the run folder that a path means, links followed, for a run to be written into it.

    Raises:
        UsageError: it is runs/latest, which names the latest run, and there is none.
    """
    link = Path(path).absolute()
    is_latest = link.name == LATEST and link.parent.resolve() == RUNS.resolve()
    if is_latest and not link.is_dir():
        raise UsageError(
            f"{path} names the latest run, and there is none", hint="Name another folder."
        )
    return follow_links(path)


def update_latest_link(run_dir: Path) -> None:
    """Let runs/latest name `run_dir`, where links can be made."""
    link = RUNS / f"{TEMPORARY_PREFIX}latest"
    with suppress(OSError):
        RUNS.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(run_dir.resolve(), RUNS.resolve()))
        link.replace(RUNS / LATEST)
    with suppress(OSError):
        link.unlink(missing_ok=True)


def latest_run_dir() -> Path:
    """Return the newest run's folder.

    Raises:
        CheckpointError: there is none.
    """
    link = RUNS / LATEST
    if not link.is_dir():
        raise CheckpointError(
            f"no checkpoint was named and there is no {link}",
            hint="Name a checkpoint or a run folder, or train first: dpvae train beta_h_moons.",
        )
    return follow_links(link)


def resolve_checkpoint(path: Path | None, *, best: bool = False) -> Path:
    """Return the checkpoint file that a file, a run folder, or None for the latest, means."""
    place = latest_run_dir() if path is None else path
    if place.is_dir():
        return follow_links(place) / (BEST if best else CURRENT)
    return follow_links(place.parent) / place.name


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
