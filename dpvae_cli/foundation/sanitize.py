"""Make untrusted text safe to print and to write."""

import re
import unicodedata

MAX_LINE_LENGTH = 200
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters and marks of text direction."""


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
