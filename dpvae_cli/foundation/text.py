"""Text: read files that cannot be trusted, make text safe to print, write numbers."""

import difflib
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpvae_cli.foundation.errors import UsageError

if TYPE_CHECKING:
    pass


MAX_TEXT_BYTES = 256 * 2**20
"""Larger text files are not read."""
MAX_LINE_BYTES = 2**20
"""Longer lines of a log are read in pieces."""
MAX_LINE_LENGTH = 200
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters and marks of text direction."""
LARGE = 1e5
"""Larger numbers are written with a power of ten."""
MAX_FLOAT = sys.float_info.max


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


def escape_unprintable(text: str) -> str:
    """Escape control characters and undecodable bytes of paths, for UTF-8 files."""
    return escape_control_chars(text).encode("utf-8", "backslashreplace").decode("utf-8")


def sanitize_line(text: str, *, longest: int = MAX_LINE_LENGTH) -> str:
    """Return untrusted text as one line of bounded length without control characters."""
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def escape_control_chars(text: str) -> str:
    """Escape control characters except newline and tab, and marks that change text direction.

    Bytes of a path that are not UTF-8 stay, so that the printed path is that of the file.
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def format_number(value: float | None, *, sign: bool = False) -> str:
    """Return four significant digits, or a dash for None and numbers that are not finite."""
    is_there = value is not None and math.isfinite(value)
    return f"{value:{'+' if sign else ''}.4g}" if is_there else "-"


def format_with_error(value: float | None, error: float | None, *, sign: bool = False) -> str:
    """Return `value +- error`, the error with two significant digits; or (1.2 +- 0.3)e7."""
    if value is None or error is None or not math.isfinite(value + error):
        return format_number(value, sign=sign)
    if (largest := max(abs(value), error)) >= LARGE:
        power = math.floor(math.log10(largest))
        return f"({format_with_error(value / 10**power, error / 10**power, sign=sign)})e{power}"
    digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 4
    digits = min(digits, 6)
    return f"{value:{'+' if sign else ''}.{digits}f} ± {error:.{digits}f}"


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean X?` for the candidate that is spelled most alike, if any is."""
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def replace_between(text: str, begin: str, end: str, content: str) -> str:
    """Return a text with the part between two markers replaced.

    Raises:
        UsageError: the text has no such markers.
    """
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise UsageError(f"there are no lines {begin} and {end} to write between")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def nonfinite_to_none(value: Any) -> Any:
    """Return `value` with every number that no finite float holds, at any depth, as None."""
    if isinstance(value, (float, int)):
        return value if -MAX_FLOAT <= value <= MAX_FLOAT else None
    if isinstance(value, dict):
        return {key: nonfinite_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nonfinite_to_none(item) for item in value]
    return value
