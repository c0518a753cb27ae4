"""Make untrusted text safe to print and to write."""

import re
import unicodedata

MAX_LINE_LENGTH = 200
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters and marks of direction."""


def escape_unprintable(text: str) -> str:
    """Return text for a UTF-8 file: control characters and stray bytes of paths are spelled out."""
    return escape_control_chars(text).encode("utf-8", "backslashreplace").decode("utf-8")


def sanitize_line(text: str, *, longest: int = MAX_LINE_LENGTH) -> str:
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
