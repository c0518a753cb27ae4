"""Where data is looked for: --data-root, else DPVAE_DATA, else the user's cache."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text_files import expand_user

VARIABLE = "DPVAE_DATA"
CACHE_VARIABLE = "DPVAE_CACHE"


def cache_root() -> Path:
    """Return the folder for caches and downloads: DPVAE_CACHE, else the platform's cache folder.

    Raises:
        UsageError: the user has no home folder, and no variable names one.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return expand_user(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "dpvae"
    try:
        return Path.home() / ".cache" / "dpvae"
    except RuntimeError as error:
        raise UsageError(
            "there is no home folder for caches and downloads",
            hint=f"Name a folder: set {CACHE_VARIABLE}, and {VARIABLE} where the data is.",
        ) from error


def data_root(root: Path | None = None) -> Path:
    """Return the one folder that data is looked for in."""
    if root is not None:
        return expand_user(root)
    if chosen := os.environ.get(VARIABLE):
        return expand_user(chosen)
    return cache_root() / "data"


def candidate_folders(kind: str, root: Path | None = None) -> list[Path]:
    """Return the folders to try for one kind of data, in order."""
    folder = data_root(root)
    return [folder / kind, folder]


def first_folder_with(folders: Sequence[Path], files: Iterable[str]) -> Path | None:
    """Return the first folder that has any of the files."""
    names = tuple(files)
    return next((f for f in folders if any((f / name).is_file() for name in names)), None)


def path_not_found_error(problem: str, tried: Sequence[Path]) -> MissingError:
    """Return the error for a path of the recipe's that names nothing, with the places in full."""
    places = ", ".join(str(path.absolute()) for path in tried)
    return MissingError(
        f"{problem}; looked at {places}",
        hint=f"A relative path starts from the working folder, {Path.cwd()}, wherever the recipe "
        f"lies. Give a full path, or name the data's folder with --data-root or {VARIABLE}.",
    )
