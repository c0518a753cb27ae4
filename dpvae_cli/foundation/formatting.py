"""Numbers as text with as many digits as they deserve, and suggestions for misspelled words."""

import difflib
import math
from collections.abc import Iterable

LARGE = 1e5
"""Larger numbers are written with a power of ten."""


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
