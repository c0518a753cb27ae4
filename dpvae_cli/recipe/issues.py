"""What is wrong in a recipe: where, what, and what would be right; all in one error."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError

KeyPath = tuple[str | int, ...]
MAX_VALUE_LENGTH = 60
MAX_LISTED = 40
HINT = "A whole recipe with every key: dpvae recipes show beta_h_moons"


@final
@dataclass(frozen=True, order=True)
class SourceLocation:
    """Where something was written: a line of a file, or an override on the command line.

    `rank` sorts files by line, then overrides in order; `key` is what the label itself names.
    """

    rank: tuple[int, int]
    label: str
    key: str = ""


@final
@dataclass(frozen=True, order=True)
class ConfigIssue:
    """One thing that is wrong, with the key and where it was written."""

    location: SourceLocation
    key: str
    problem: str

    def __str__(self) -> str:
        """Return `file.yaml:7: training.iteratons: problem` or `override key=value: problem`."""
        named = self.key and self.key != self.location.key
        return ": ".join([self.location.label, *([self.key] if named else []), self.problem])


@final
class RecipeError(UsageError):
    """A recipe, or a study of recipes, cannot be used; `issues` holds all that is wrong."""

    def __init__(
        self, issues: Sequence[ConfigIssue], *, hint: str | None = HINT, what: str = "recipe"
    ) -> None:
        self.issues = tuple(issues)
        self.what = what
        lines = [str(issue) for issue in issues[:MAX_LISTED]]
        if len(issues) > MAX_LISTED:
            lines.append(f"... and {len(issues) - MAX_LISTED} more")
        if len(issues) != 1:
            lines.insert(0, f"{len(issues)} mistakes in the {what}:")
        super().__init__("\n  ".join(lines), hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error travel between processes."""
        made = partial(type(self), hint=self.hint, what=self.what)
        return made, (self.issues,)


def format_path(path: KeyPath) -> str:
    """Return `prior.masks[0]` for `("prior", "masks", 0)`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    text = text.removeprefix(".")
    return truncate(text if text.isprintable() else ascii(text))


def format_value(value: Any) -> str:
    """Return a value as it is written in a recipe, truncated."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return truncate(json.dumps(value, ensure_ascii=False, default=str))


def truncate(text: str, *, length: int = MAX_VALUE_LENGTH) -> str:
    """Return the text, or its beginning with three dots."""
    return text if len(text) <= length else text[: length - 3] + "..."
