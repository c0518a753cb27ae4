"""The frozen pydantic base of every recipe section."""

from dataclasses import dataclass
from typing import Annotated, final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """One choice in a recipe: its own fields, real defaults, nothing extra, never changed.

    Types are strict: `"8000"` is no number and `true` is no `1`. A YAML list stands for a tuple
    (`LENIENT` below lifts strictness there and nowhere else).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


LENIENT = Field(strict=False)
"""Marks a tuple field, so that a YAML list is accepted for it."""

Sizes = Annotated[tuple[Annotated[int, Field(gt=0)], ...], LENIENT]
Numbers = Annotated[tuple[float, ...], LENIENT]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("the lower end must be below the upper end")
    return pair


Range = Annotated[tuple[float, float], LENIENT, AfterValidator(_ordered)]


@final
@dataclass(frozen=True)
class DefaultsTo:
    """Marks a field whose default is the value at another place of the recipe, `section.field`."""

    path: str
