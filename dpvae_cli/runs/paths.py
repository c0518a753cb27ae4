"""Where runs are: run folders, checkpoint files, and the link to the latest run."""

import os
from contextlib import suppress
from pathlib import Path

from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.files import TEMPORARY_PREFIX
from dpvae_cli.foundation.text import expand_user, read_text
from dpvae_cli.recipe import Recipe
from dpvae_cli.runs.packaged import resolve_packaged, unpack
from dpvae_cli.runs.run_folder import BEST, CURRENT

RUNS = Path("runs")
LATEST = "latest"
MAX_PATH_BYTES = 2**15


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


def resolve_run(path: Path | str) -> Path:
    """Return the folder of runs/latest or of a packaged model, unpacked; other paths stay."""
    place = read_latest(path)
    if (model := resolve_packaged(place)) is None:
        return place
    unpack(model, RUNS / model.stem)
    return RUNS / model.stem


def resolve_checkpoint(path: Path | None, *, best: bool = False) -> Path:
    """Return the checkpoint file that a path means.

    Args:
        path: the file, a run folder, a packaged model (unpacked into `runs/NAME`), or None for the
            latest run.
        best: of a run folder take best.pt.
    """
    place = latest_run_dir() if path is None else resolve_run(path)
    if place.is_dir():
        return follow_links(place) / (BEST if best else CURRENT)
    return follow_links(place.parent) / place.name
