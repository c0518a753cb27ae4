"""Replace the run in a folder by another one: nothing but files that dpvae wrote is deleted.

The new run is written into a hidden folder inside the run folder. Once it has a checkpoint, its
recipe is renamed over the old one. This rename decides: a process that is killed
before it leaves the old run whole; after it, `finish_commit` completes the new run.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import HIDDEN_PREFIX, sync_folder
from dpvae_cli.runs.fallback import CURRENT

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
    | traversals/((line|sweep|grid|pairs|z0?|both)-?)+(-\d+)?\.(png|npz|gif|json)""",
    re.VERBOSE,
)
"""The files that dpvae writes into a run folder, all that `--overwrite` ever deletes."""
SUBFOLDERS = ("tensorboard", "mlflow", "wandb", "samples", "reconstructions", "codes", "traversals")
MAX_LISTED = 5
"""Files that an error names."""


def stage(folder: Path) -> Path:
    """Return the hidden folder for a new run, made empty.

    Raises:
        UsageError: it cannot be made.
    """
    staged = folder / STAGED
    try:
        staged.mkdir()
    except OSError as error:
        raise UsageError(f"cannot make {staged}: {error.strerror}") from None
    return staged


def commit(folder: Path) -> None:
    """Let the staged run, which has a checkpoint, replace the run in the folder."""
    (folder / STAGED / RECIPE).replace(folder / RECIPE)
    sync_folder(folder)
    finish_commit(folder)


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
