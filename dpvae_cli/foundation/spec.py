"""The frozen pydantic base of every recipe section."""

from dataclasses import dataclass
from typing import Annotated, Any, final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

MAX_INTEGER = 2**63 - 1
MAX_FLOAT = 1e30
"""Beyond this, sums and squares are too close to what a float32 holds."""


def remove_example(docstring: str) -> str:
    """Return a docstring without its example, which is for Python and not for a recipe."""
    return docstring.partition("\n\nExample:")[0]


def _describe(schema: dict[str, Any]) -> None:
    if "description" in schema:
        schema["description"] = remove_example(schema["description"])


class Spec(BaseModel):
    """One choice in a recipe: its own fields, real defaults, nothing extra, never changed.

    Types are strict: `"8000"` is not a number and `true` is not `1`. A YAML list stands for a tuple
    (`FROM_LIST` below lifts strictness there and nowhere else). Numbers that no tensor can hold are
    errors.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra=_describe,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _fits_a_tensor(cls, value: Any) -> Any:
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, int) and abs(each) > MAX_INTEGER:
                raise ValueError("numbers beyond 64 bits are not allowed")
            if isinstance(each, float) and abs(each) > MAX_FLOAT:
                raise ValueError(f"numbers beyond {MAX_FLOAT:g} are not allowed")
        return value


def former_name(old: str, new: str) -> BeforeValidator:
    """Return a validator that reads the former name of a value, which checkpoints may hold."""
    return BeforeValidator(lambda value: new if value == old else value)


FROM_LIST = Field(strict=False)
"""Marks a tuple field, so that a YAML list is accepted for it."""

LayerSizes = Annotated[tuple[Annotated[int, Field(gt=0)], ...], FROM_LIST, Field(max_length=100)]
FloatTuple = Annotated[tuple[float, ...], FROM_LIST, Field(max_length=1_000)]


def _check_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError("the lower end must be below the upper end")
    return pair


Interval = Annotated[tuple[float, float], FROM_LIST, AfterValidator(_check_order)]


@final
@dataclass(frozen=True)
class DefaultFrom:
    """Marks a field whose default is the value at another place of the recipe, `section.field`."""

    path: str
