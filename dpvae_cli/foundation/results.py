"""Result records: what a metric measured, how, and how sure it is.

The JSON form is part of the interface: `{"schema": 1, "runs": [{"run", "checkpoint",
"checkpoint_digest", "iteration", "recipe", "results": [...]}]}`; a run folder's `metrics.json` is
one element of `runs`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, final

from dpvae_cli.foundation.notebook import html_table
from dpvae_cli.foundation.text import format_with_error, nonfinite_to_none, sanitize_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter


SCHEMA = 1


@final
@dataclass(frozen=True)
class Result:
    """One measured quantity.

    `value` and `standard_error` are None where they are not defined (a curve without samples, a
    quantity without repeats); the values of a curve are `details.thresholds` and `details.values`.

    `error_terms` are what the draws contribute to the standard error (`mathematics.estimates`),
    under `value`; those of a curve have the name of its values and a column for each point. They
    give the error of a difference; JSON does not have them (`runs.results_file` keeps those of
    values).
    """

    metric: str
    value: float | None
    standard_error: float | None
    unit: str
    samples: int
    seed: int
    split: str | None
    weights: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    error_terms: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Tensors by name."""

    def _repr_html_(self) -> str:
        return ResultList([self])._repr_html_()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; numbers that are not finite become null."""
        names = [item.name for item in fields(self) if item.name != "error_terms"]
        return {name: nonfinite_to_none(getattr(self, name)) for name in names}

    @classmethod
    def model_validate(cls, record: Any) -> "Result":
        """Return the result in a JSON record, which may come from anywhere; text is sanitized.

        Raises:
            ValueError: the record is not a result.
        """
        found = _adapter().validate_python(nonfinite_to_none(record))
        split, weights = (
            None if text is None else sanitize_line(text) for text in (found.split, found.weights)
        )
        return replace(
            found,
            metric=sanitize_line(found.metric),
            unit=sanitize_line(found.unit),
            split=split,
            weights=weights,
            error_terms={},
        )


@final
class ResultList(list[Result]):
    """Results that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        columns = ["metric", "value ± standard error", "unit", "samples", "seed", "split"]
        rows = [
            [
                each.metric,
                format_with_error(each.value, each.standard_error),
                each.unit,
                f"{each.samples:,}",
                str(each.seed),
                each.split or "-",
            ]
            for each in self
        ]
        return html_table(columns, rows)


@cache
def _adapter() -> "TypeAdapter[Result]":
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import

    return TypeAdapter(Result)


def validate_results(records: Any) -> tuple[Result, ...]:
    """Return the results in a list of JSON records; what is not a result is left out."""
    found = []
    for record in records if isinstance(records, list) else ():
        with suppress(ValueError, OverflowError, RecursionError):
            found.append(Result.model_validate(record))
    return tuple(found)


@final
@dataclass(frozen=True)
class RunResults:
    """Results of one checkpoint; digest and iteration identify the state of the run."""

    run: str
    checkpoint: str
    recipe: str
    results: tuple[Result, ...]
    checkpoint_digest: str
    iteration: int

    def to_json(self) -> dict[str, Any]:
        """Return one element of `runs`."""
        return {
            "run": self.run,
            "checkpoint": self.checkpoint,
            "checkpoint_digest": self.checkpoint_digest,
            "iteration": self.iteration,
            "recipe": self.recipe,
            "results": [result.to_json() for result in self.results],
        }


def results_document(runs: Sequence[RunResults]) -> dict[str, Any]:
    """Return the JSON document that `dpvae eval --json` prints."""
    return {"schema": SCHEMA, "runs": [run.to_json() for run in runs]}
