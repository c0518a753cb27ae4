"""Plain YAML scalars as YAML 1.2 reads them: `1e-4` is a number, `on` is a word."""

import re

Scalar = bool | int | float | str | None

# Numbers longer than any sensible one stay text, so that no digit string costs time.
INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,64}")
OCTAL = re.compile(r"0o[0-7]{1,64}")
FLOAT = re.compile(r"[-+]?(\.[0-9]{1,300}|[0-9]{1,300}(\.[0-9]{0,300})?)([eE][-+]?[0-9]{1,9})?")
WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
NOT_A_NUMBER = (".nan", ".NaN", ".NAN")


def plain_scalar(text: str) -> Scalar:
    """Return what an unquoted scalar stands for.

    One rule is ours: a whole number in scientific notation without a point, `1e5`, is an
    integer, since counts are written so.
    """
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if HEXADECIMAL.fullmatch(text) or OCTAL.fullmatch(text):
        return int(text, base=0)
    if FLOAT.fullmatch(text):
        value = float(text)
        return int(value) if "." not in text and value.is_integer() else value
    if match := INFINITY.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if text in NOT_A_NUMBER else text
