"""Where data is looked for: --data-root, else DPVAE_DATA, else the user's cache."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dpvae_cli.foundation import download as downloads
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text import expand_user, path_exists

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


def find_files(
    kind: str,
    files: Sequence[str],
    root: Path | None,
    *,
    label: str,
    hint: str,
    subfolder: str = ".",
    packed: str = "",
    source: Callable[[str], tuple[Sequence[str], str]] | None = None,
) -> Path:
    """Return the folder with a data set's files: the first candidate that has any of them.

    Files lie in the `subfolder` of a candidate. They may have the suffix `packed` as well, and have
    it when they are downloaded: where `source` gives the addresses and the checksum of a file.
    `label` is the data set's name in errors, and `{folder}` in `hint` stands for the folder.

    Raises:
        MissingError: files are missing and `source` is None, or they cannot be downloaded.
    """
    tried = [folder / subfolder for folder in candidate_folders(kind, root)]

    def has(folder: Path, name: str) -> bool:
        return (folder / name).is_file() or (folder / f"{name}{packed}").is_file()

    there = next((folder for folder in tried if any(has(folder, file) for file in files)), None)
    folder = there or tried[0]
    missing = [file for file in files if not has(folder, file)]
    if missing and source is None:
        places = " and ".join(map(str, [there] if there else tried))
        raise MissingError(
            f"{label}: {', '.join(missing)} not found; looked in {places}",
            hint=hint.format(folder=folder),
        )
    for file in missing:
        assert source is not None
        urls, checksum = source(file)
        try:
            downloads.download(urls, folder / f"{file}{packed}", checksum=checksum)
        except OSError as error:
            raise MissingError(
                f"{label}: {file} is not in {folder} and could not be downloaded: {error}",
                hint="Start again to go on with what has arrived, or "
                f"put {urls[0]} there, or name another folder with --data-root or {VARIABLE}.",
            ) from None
    return folder


def find_path(
    path: str, kind: str, root: Path | None, problem: str, accept: Callable[[Path], bool]
) -> Path:
    """Return a path of a recipe as given, or under the data root.

    Raises:
        MissingError: `problem`, with the places in full, where `accept` takes none of them.
    """
    tried = [expand_user(path), data_root(root) / kind / path, data_root(root) / path]
    for candidate in tried:
        if path_exists(candidate) and accept(candidate):
            return candidate
    raise MissingError(
        f"{problem}; looked at {', '.join(str(path.absolute()) for path in tried)}",
        hint=f"A relative path starts from the working folder, {Path.cwd()}, wherever the recipe "
        f"lies. Give a full path, or name the data's folder with --data-root or {VARIABLE}.",
    )
