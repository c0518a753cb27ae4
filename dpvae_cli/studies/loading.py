"""Studies: from a name or a file and overrides to a study, or to all that is wrong with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, final

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.spec import FROM_LIST, Spec
from dpvae_cli.foundation.text import did_you_mean
from dpvae_cli.recipe.document import (
    ConfigDocument,
    ConfigIssue,
    KeyPath,
    RecipeError,
    SourceLocation,
    format_path,
    format_value,
    read_file,
)
from dpvae_cli.recipe.loading import key_error, parse_overrides
from dpvae_cli.recipe.validation import keys
from dpvae_cli.studies.catalogue import locate_study, study_error
from dpvae_cli.studies.figures import KINDS, AnyFigure

RECORD = "study.yaml"
LISTS = ("recipes", "metrics", "figures", "notes")


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


@final
@dataclass(frozen=True)
class LoadedStudy:
    """A study, its name, and where each part of it was written."""

    name: str
    study: Study
    tree: ConfigDocument

    def place(self, *path: str | int) -> SourceLocation:
        """Return where a part was written."""
        return self.tree.location(path)


def load_study(name_or_path: str, overrides: Sequence[str] = ()) -> LoadedStudy:
    """Return a packaged study or one from a file, with overrides from the command line.

    Args:
        name_or_path: `table1` (see `dpvae reproduce`) or `path/to/mine.yaml`.
        overrides: `key=value`: an axis of the study takes these values, a key of the study
            itself (`metrics=[skl]`) this value, any other is a recipe's key for all cells;
            `pattern:key=value` for the recipes whose name fits the pattern.

    Raises:
        RecipeError: with every mistake of the file and the overrides.

    Example:
        >>> from dpvae_cli.studies.loading import load_study
        >>> load_study("moons_quick", ["seed=[7, 8]"]).study.axes["seed"]
        (7, 8)
    """
    path = locate_study(name_or_path)
    try:
        tree = read_file(path)
    except RecipeError as error:
        raise study_error(error.issues) from error
    _apply(tree, overrides)
    # A study's own record, studies/x/study.yaml, is the study x.
    name = path.resolve().parent.name if path.name == RECORD else path.stem
    if name in ("", ".", ".."):
        problem = "a study is kept in studies/NAME, and this file gives it no name"
        raise study_error([ConfigIssue(SourceLocation((0, 0), str(path)), "", problem)])
    mistakes = list(tree.issues)
    try:
        study = Study.model_validate(tree.values)
        mistakes += _key_mistakes(study, tree)
    except ValidationError as error:
        mistakes += _issues_from(error, tree)
    if mistakes:
        raise study_error(sorted(mistakes))
    return LoadedStudy(name, study, tree)


def study_to_yaml(study: Study) -> str:
    """Return the study as YAML that reads back as an equal one."""
    plain = study.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96)
    return str(text)


def _key_mistakes(study: Study, tree: ConfigDocument) -> list[ConfigIssue]:
    """Return keys that no recipe can have, and axes that are overridden as well."""
    written: list[KeyPath] = [("axes", key) for key in study.axes]
    written += [("overrides", key) for key in study.overrides]
    written += [
        ("overrides_for", p, key) for p, keys in study.overrides_for.items() for key in keys
    ]
    found = []
    for path in written:
        key = str(path[-1])
        problem = key_error(key)
        if problem is None and path[0] != "axes" and key in study.axes:
            problem = "is an axis already; one of the two"
        if problem is not None:
            found.append(ConfigIssue(tree.location(path), key, problem))
    return found


def _apply(tree: ConfigDocument, texts: Sequence[str]) -> None:
    """Write overrides over the tree: an axis, a key of the study, or a key of its recipes."""
    for index, text in enumerate(texts):
        before, _, _ = text.partition("=")
        pattern, colon, name = before.rpartition(":")
        place = SourceLocation((1, index), f"override {text}", name.strip())
        parsed, mistakes = parse_overrides([text.removeprefix(pattern + colon)])
        tree.issues.extend(replace(issue, location=place) for issue in mistakes)
        for override in parsed:
            key, value = ".".join(map(str, override.path)), override.value
            axes = tree.values.setdefault("axes", {k: list(v) for k, v in default_axes().items()})
            patterns = tree.values.get("overrides_for", {})
            if not pattern and isinstance(axes, dict) and key in axes:
                axes[key] = value if isinstance(value, list) else [value]
                _mark(tree, ("axes", key), place)
            elif not pattern and key in Study.model_fields:
                wrap = key in LISTS and not isinstance(value, list)
                tree.set((key,), [value] if wrap else value, place)
            elif isinstance(patterns, dict):  # else a mistake of the file, reported as such
                keys = patterns.pop(pattern or "*", {})
                if isinstance(keys, dict):
                    keys.pop(key, None)
                    keys[key] = value
                patterns[pattern or "*"] = keys  # behind all others, so that it wins
                tree.values["overrides_for"] = patterns
                _mark(tree, ("overrides_for", pattern or "*", key), place)


def _mark(tree: ConfigDocument, path: KeyPath, place: SourceLocation) -> None:
    for stale in [known for known in tree.locations if known[: len(path)] == path]:
        del tree.locations[stale]
    tree.locations[path] = place


def _issues_from(error: ValidationError, tree: ConfigDocument) -> list[ConfigIssue]:
    """Return one mistake for each place that pydantic complains about."""
    found: dict[KeyPath, ConfigIssue] = {}
    for detail in error.errors(include_url=False):
        path: KeyPath = detail["loc"]
        kind = None
        if path[:1] == ("figures",) and len(path) > 2 and path[2] in KINDS:
            kind, path = str(path[2]), (*path[:2], *path[3:])  # without the union's tag
        found.setdefault(
            path, ConfigIssue(tree.location(path), format_path(path), _problem(detail, kind))
        )
    return list(found.values())


def _problem(detail: ErrorDetails, kind: str | None) -> str:
    error_type, given, name = detail["type"], detail["input"], str(detail["loc"][-1])
    if error_type == "extra_forbidden":
        among = _among(name, keys(KINDS[kind] if kind else Study))
        return f"unknown key (given {format_value(given)}){among}"
    if error_type in ("union_tag_invalid", "union_tag_not_found"):
        word = str(given.get("kind", "")) if isinstance(given, dict) else ""
        return f"{format_value(given)} has no kind there is{_among(word, KINDS)}"
    if error_type == "missing" and isinstance(given, dict):
        field = Study.model_fields.get(name)
        return f"is missing; {(field.description if field else None) or 'it is needed'}"
    if error_type == "value_error":
        return f"{format_value(given)} {detail['msg'].removeprefix('Value error, ')}"
    message = detail["msg"].replace("tuple", "list").replace("Tuple", "List")
    return f"{format_value(given)}: {message[0].lower()}{message[1:]}"


def _among(word: str, allowed: Iterable[str]) -> str:
    candidates = list(allowed)
    return f"{did_you_mean(word, candidates)}; allowed: {', '.join(candidates)}"
