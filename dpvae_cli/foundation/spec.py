"""The frozen pydantic base of every recipe section."""

from dataclasses import dataclass
from typing import Annotated, Any, final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

LARGEST_INTEGER = 2**63 - 1
LARGEST_FLOAT = 1e30
"""Beyond this, sums and squares are too close to what a float32 holds."""


class Spec(BaseModel):
    """One choice in a recipe: its own fields, real defaults, nothing extra, never changed.

    Types are strict: `"8000"` is no number and `true` is no `1`. A YAML list stands for a tuple
    (`LENIENT` below lifts strictness there and nowhere else). Numbers that no tensor can hold are
    refused.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _fits_a_tensor(cls, value: Any) -> Any:
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, int) and abs(each) > LARGEST_INTEGER:
                raise ValueError("numbers beyond 64 bits are refused")
            if isinstance(each, float) and abs(each) > LARGEST_FLOAT:
                raise ValueError(f"numbers beyond {LARGEST_FLOAT:g} are refused")
        return value


LENIENT = Field(strict=False)
"""Marks a tuple field, so that a YAML list is accepted for it."""

Sizes = Annotated[tuple[Annotated[int, Field(gt=0)], ...], LENIENT, Field(max_length=100)]
Numbers = Annotated[tuple[float, ...], LENIENT, Field(max_length=1_000)]


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
