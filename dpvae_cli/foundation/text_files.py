"""Read text files, JSON and paths that cannot be trusted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 256 * 2**20
"""Larger text files are not read."""
MAX_LINE_BYTES = 2**20
"""Longer lines of a log are read in pieces."""


def expand_user(path: Path | str) -> Path:
    """Return the path with `~` read as the home folder; without such a home it stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def path_exists(path: Path | str) -> bool:
    """Tell whether something is at the path; a name that no file can have is not there."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path, with all links followed, is in a folder or is not there at all."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return False


def read_text(path: Path, *, errors: str = "strict", limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a plain file of bounded size.

    Raises:
        OSError: it is no plain file (a pipe would wait for ever), or cannot be read.
        ValueError: it is too large, or not UTF-8 and `errors` is strict.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path} has {size:,} bytes, {limit:,} is the most")
    return path.read_text(encoding="utf-8", errors=errors)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a plain file of any size, one at a time, without their ends.

    Raises:
        OSError: it is no plain file (a pipe would wait for ever), or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def parse_json(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, or nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; an empty one where there is no such file or mapping."""
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
