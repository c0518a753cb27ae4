"""The study: which recipes, along which axes, measured how, drawn how."""

from typing import Annotated, Any, Literal, final

from pydantic import AfterValidator, BeforeValidator, Field

from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.spec import FROM_LIST, Spec
from dpvae_cli.foundation.text import did_you_mean
from dpvae_cli.studies.figures import AnyFigure


def _check_metric(metric: str) -> str:
    """Check that this is a metric.

    Raises:
        ValueError: it is not.
    """
    if metric in METRICS:
        return metric
    meant = did_you_mean(metric, METRICS)
    raise ValueError(f"is not a metric{meant}; allowed: {', '.join(METRICS)}")


def default_axes() -> dict[str, tuple[Any, ...]]:
    """Return the axes of a study that names none: every recipe and its twin."""
    return {"prior": ("standard_normal", "decoupled"), "seed": (0,)}


def _expand_kinds(figures: Any) -> Any:
    """Read a bare word as `{kind: word}`."""
    if not isinstance(figures, (list, tuple)):
        return figures
    return [{"kind": figure} if isinstance(figure, str) else figure for figure in figures]


StringList = Annotated[tuple[str, ...], FROM_LIST]
AxisValues = Annotated[tuple[Any, ...], FROM_LIST, Field(min_length=1)]
MetricName = Annotated[str, AfterValidator(_check_metric)]
FigureList = Annotated[
    tuple[Annotated[AnyFigure, Field(discriminator="kind")], ...],
    FROM_LIST,
    BeforeValidator(_expand_kinds),
]


@final
class Study(Spec):
    """A grid of runs: every recipe at every combination of the axes' values."""

    title: Annotated[str, Field(min_length=1)]
    """What the report is called."""
    question: str | None = None
    """What the study is to answer."""
    recipes: Annotated[StringList, Field(min_length=1)]
    """Recipes by name or file."""
    axes: dict[str, AxisValues] = Field(default_factory=default_axes)
    """Recipe keys and the values each cell takes one of."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Recipe keys and their values in all cells."""
    overrides_for: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The same for the recipes whose name fits a pattern, such as `"*_celeba"`."""
    metrics: Annotated[tuple[MetricName, ...], FROM_LIST] = ()
    """What is measured of each cell, as far as its data allows."""
    figures: FigureList = ()
    """What is drawn of the cells."""
    published: Literal["table1"] | None = None
    """Published numbers to set beside the measured ones."""
    baseline: Annotated[str, Field(min_length=1)] = "standard_normal"
    """The prior that the others are compared with, by its name in the report's tables."""
    notes: StringList = ()
    """What readers of the report should know."""
