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
    """Return the path with `~` expanded, or unchanged where there is no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def path_exists(path: Path | str) -> bool:
    """Tell whether the path exists; names that no file can have do not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path, with all links followed, is inside a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return False


def read_text(path: Path, *, errors: str = "strict", limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a regular file of bounded size.

    Raises:
        OSError: it is not a regular file (a pipe would block), or cannot be read.
        ValueError: it is too large, or not UTF-8 and `errors` is strict.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path} has {size:,} bytes, {limit:,} is the most")
    return path.read_text(encoding="utf-8", errors=errors)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a regular file of any size, without line ends.

    Raises:
        OSError: it is not a regular file (a pipe would block), or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is malformed, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty mapping."""
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
