"""Mistakes in a recipe: where, what, and what would be right; all of them in one error."""

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError

KeyPath = tuple[str | int, ...]
SHOWN_LENGTH = 60
LISTED_MISTAKES = 40
HINT = "A whole recipe with every key: dpvae recipes show beta_h_moons"


@final
@dataclass(frozen=True, order=True)
class Place:
    """Where something was written: a line of a file, or an override on the command line.

    `rank` sorts files by line, then overrides in order; `key` is what the label itself names.
    """

    rank: tuple[int, int]
    label: str
    key: str = ""


@final
@dataclass(frozen=True, order=True)
class Mistake:
    """One thing wrong with the key at a place."""

    place: Place
    key: str
    problem: str

    def __str__(self) -> str:
        """Return `file.yaml:7: training.iteratons: problem` or `override key=value: problem`."""
        named = self.key and self.key != self.place.key
        return ": ".join([self.place.label, *([self.key] if named else []), self.problem])


@final
class RecipeError(UsageError):
    """A recipe, or a study of recipes, cannot be used; `mistakes` holds all that is wrong."""

    def __init__(
        self, mistakes: Sequence[Mistake], *, hint: str | None = HINT, what: str = "recipe"
    ) -> None:
        self.mistakes = tuple(mistakes)
        self.what = what
        super().__init__(_message(self.mistakes, what), hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error travel between processes."""
        made = partial(type(self), hint=self.hint, what=self.what)
        return made, (self.mistakes,)


def _message(mistakes: Sequence[Mistake], what: str) -> str:
    lines = [str(mistake) for mistake in mistakes[:LISTED_MISTAKES]]
    if len(mistakes) > LISTED_MISTAKES:
        lines.append(f"... and {len(mistakes) - LISTED_MISTAKES} more")
    if len(mistakes) == 1:
        return lines[0]
    return "\n  ".join([f"{len(mistakes)} mistakes in the {what}:", *lines])


def dotted(path: KeyPath) -> str:
    """Return `prior.masks[0]` for `("prior", "masks", 0)`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    text = text.removeprefix(".")
    return shortened(text if text.isprintable() else ascii(text))


def shown(value: Any) -> str:
    """Return a given value as it stands in a recipe, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return shortened(json.dumps(value, ensure_ascii=False, default=str))


def shortened(text: str, *, length: int = SHOWN_LENGTH) -> str:
    """Return the text, or its beginning and three dots."""
    return text if len(text) <= length else text[: length - 3] + "..."


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean X?` for the candidate that is spelled most alike, if any is."""
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
