"""The run folder: where a run's files are, who may write them, and which run is the latest."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from filelock import FileLock, Timeout

from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.files import point, remove_leftovers, write_json, write_text
from dpvae_cli.foundation.strangers import read_text
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.training.checkpoint import BEST, CURRENT, PREVIOUS
from dpvae_cli.version import __version__

RUNS = Path("runs")
LATEST = "latest"


OTHERWISE = (
    "Add --resume to go on with it, --overwrite to start over, or --run-dir for another folder."
)


@final
class RunFolder:
    """The files of one run: recipe, checkpoints, metrics, environment, results and pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.checkpoint = path / CURRENT
        self.previous = path / PREVIOUS
        self.best = path / BEST
        self.metrics_log = path / "metrics.jsonl"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.json"
        self.errors = path / "errors.log"
        self.fit = path / "fit.json"
        self.samples = path / "samples.png"

    def prepare(
        self, *, resume: bool = False, overwrite: bool = False, hint: str = OTHERWISE
    ) -> None:
        """Make the folder; refuse one with files in it unless told to go on or to start over.

        Raises:
            UsageError: the folder is not empty, is a file, or cannot be made.
        """
        if resume and overwrite:
            raise UsageError("--resume and --overwrite exclude each other")
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file, a run needs a folder")
        self._remove_leftovers()
        if overwrite and self.path.exists():
            self._refuse_strangers()
            self._delete()
        if not resume and self._has_files():
            raise UsageError(
                f"run folder {self.path} is not empty",
                hint=hint,
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make {self.path}: {error.strerror}") from error

    def _remove_leftovers(self) -> None:
        """Remove what a run that was killed while it wrote left half-written."""
        for path in (
            self.recipe,
            self.environment,
            self.checkpoint,
            self.previous,
            self.best,
            self.metrics_log,
            self.fit,
            self.samples,
        ):
            remove_leftovers(path)

    def _delete(self) -> None:
        """Delete the folder, its recipe last: cut short, it is a run folder still."""
        for path in list(self.path.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != self.recipe:
                path.unlink()
        shutil.rmtree(self.path)

    def copy_log(self, other: "RunFolder") -> None:
        """Let another run begin with this one's metrics.jsonl, where there is one."""
        with suppress(OSError, ValueError):
            write_text(other.metrics_log, read_text(self.metrics_log, errors="replace"))

    def go_back(self) -> None:
        """Let checkpoint.pt be the one before it.

        Raises:
            UsageError: the folder cannot be written to.
        """
        try:
            point(self.checkpoint, to=self.previous)
        except OSError as error:
            raise UsageError(f"cannot write {self.checkpoint}: {error.strerror}") from error

    def _has_files(self) -> bool:
        return self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir())

    def _refuse_strangers(self) -> None:
        """Refuse to delete a folder that is no run folder."""
        if self._has_files() and not self.recipe.is_file():
            raise UsageError(
                f"{self.path} holds files but no recipe.yaml, so it is no run folder; "
                "--overwrite will not delete it",
                hint="Name another folder with --run-dir.",
            )

    @contextmanager
    def locked(self, *, wanted: bool = True) -> Iterator[None]:
        """Hold the folder; a second process is refused, but those that share a run hold it once.

        Raises:
            UsageError: another process holds it.
        """
        if not wanted:
            yield
            return
        lock = self.path.with_name(f".{self.path.name}.lock")
        held = FileLock(lock)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"run folder {self.path} is in use by another process",
                hint="Wait for it, or name another folder with --run-dir.",
            ) from error
        except OSError as error:
            raise UsageError(f"cannot write {lock}: {error.strerror}") from error
        try:
            yield
        finally:
            held.release()

    def write_start(self, recipe: Recipe, *, device: torch.device, processes: int = 1) -> None:
        """Write recipe.yaml and environment.json."""
        write_text(self.recipe, to_yaml(recipe))
        write_json(self.environment, environment(device) | {"processes": processes})


def default_run_dir(recipe: Recipe) -> Path:
    """Return runs/<recipe>-<prior>-seed<k>, with -fit_<prior> where one is fitted afterwards."""
    return RUNS / recipe.run_name


def point_latest(run_dir: Path) -> None:
    """Let runs/latest name `run_dir`, where links can be made."""
    link = RUNS / f".{LATEST}.{os.getpid()}"
    try:
        RUNS.mkdir(exist_ok=True)
        link.symlink_to(os.path.relpath(run_dir, RUNS))
        link.replace(RUNS / LATEST)
    except OSError:
        with suppress(OSError):
            link.unlink()


def latest() -> Path:
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
    return Path(os.path.normpath(RUNS / link.readlink())) if link.is_symlink() else link


def locate(path: Path | None, *, best: bool = False) -> Path:
    """Return the checkpoint file that a file, a run folder, or None for the latest, means."""
    place = latest() if path is None else path
    if place.is_dir():
        return place / (BEST if best else CURRENT)
    return place


def environment(device: torch.device) -> dict[str, Any]:
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
