"""Names, texts and sizes that come from outside, met without surprises: nothing is trusted here."""

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from dpvae_cli.foundation.errors import UsageError

LARGEST_TEXT = 256 * 2**20
"""Bytes of a text file of ours beyond which it is none."""
LONGEST_RECORD = 2**20
"""Bytes of a line of a log; what is longer is none of ours and is read in pieces."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
GIGABYTE = 2**30
LONGEST_LINE = 200


def expanded(path: Path | str) -> Path:
    """Return the path with `~` read as the home folder; without such a home it stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path | str) -> bool:
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


def read_text(path: Path, *, errors: str = "strict", limit: int = LARGEST_TEXT) -> str:
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
        while line := file.readline(LONGEST_RECORD):
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


@cache
def memory() -> int:
    """Return the bytes of memory this process can ever have: the machine's or its container's."""
    is_posix = hasattr(os, "sysconf")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if is_posix else 2**62
    return min([machine, *(limit for path in LIMITS if (limit := _limit(path)) is not None)])


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or none with a limit ("max")
        return None


def refuse_too_large(what: str, needed: int, *, hint: str | None = None) -> None:
    """Refuse what cannot fit into memory before any of it is made.

    Args:
        what: begins the message.
        needed: bytes.
        hint: what to do about it.

    Raises:
        UsageError: says how much there is.
    """
    if needed > memory():
        raise UsageError(
            f"{what} needs {needed / GIGABYTE:,.1f} GB of memory, "
            f"this machine has {memory() / GIGABYTE:,.1f} GB",
            hint=hint,
        )


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters and marks of direction."""


def escape_unprintable(text: str) -> str:
    """Return text for a UTF-8 file: control characters and stray bytes of paths are spelled out."""
    return escape_control_chars(text).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, *, longest: int = LONGEST_LINE) -> str:
    """Return text from outside on one line of bounded length, without control characters."""
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def escape_control_chars(text: str) -> str:
    """Return text with what a terminal or a page would obey spelled out, ESC as its code.

    These are control characters other than newline and tab, and the marks that change the direction
    of text. Bytes of a path that are not UTF-8 stay, so that a printed path is that of the file.
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
