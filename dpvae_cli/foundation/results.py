"""Result records: what a metric measured, how, and how sure it is.

The JSON form is part of the interface: `{"schema": 1, "runs": [{"run", "checkpoint",
"checkpoint_digest", "iteration", "recipe", "results": [...]}]}`; a run folder's `metrics.json` is
one element of `runs`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
LARGEST = sys.float_info.max


@final
@dataclass(frozen=True)
class Result:
    """One measured quantity.

    `value` and `standard_error` are None where they are not defined (a curve without samples, a
    quantity without repeats); a curve stands in `details.thresholds` and `details.values`.

    `error_terms` are what the draws contribute to the standard error (`mathematics.estimates`),
    under `value`, and of a curve under the name of its values with a column a point. They serve the
    error of a difference while results are in memory, and are in no file.
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
    error_terms: "Mapping[str, Tensor]" = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; numbers that are not finite become null."""
        written = [each.name for each in fields(self) if each.name != "error_terms"]
        return {name: nonfinite_to_none(getattr(self, name)) for name in written}


def result_in(found: Any) -> Result | None:
    """Return the result that a record of JSON, which may be anybody's, holds; None for others."""
    if not isinstance(found, dict) or not isinstance(found.get("details", {}), dict):
        return None
    try:
        return Result(
            metric=str(found["metric"]),
            value=_number(found["value"]),
            standard_error=_number(found["standard_error"]),
            unit=str(found["unit"]),
            samples=int(found["samples"]),
            seed=int(found["seed"]),
            split=None if found["split"] is None else str(found["split"]),
            weights=None if found["weights"] is None else str(found["weights"]),
            details=found.get("details", {}),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


@final
@dataclass(frozen=True)
class RunResults:
    """Results of one checkpoint; the digest and the iteration say which state of the run it was."""

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


def nonfinite_to_none(value: Any) -> Any:
    """Return `value` with every number that no finite float holds, at any depth, as None."""
    if isinstance(value, (float, int)):
        return value if -LARGEST <= value <= LARGEST else None
    if isinstance(value, dict):
        return {key: nonfinite_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nonfinite_to_none(item) for item in value]
    return value
