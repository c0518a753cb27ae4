"""Pydantic's errors as mistakes of a study: the place they were written at, in plain words."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.foundation.formatting import did_you_mean
from dpvae_cli.recipe.issues import ConfigIssue, KeyPath, format_path, format_value
from dpvae_cli.recipe.reading import ConfigDocument
from dpvae_cli.recipe.sections import keys
from dpvae_cli.recipe.validation_messages import PROBLEMS
from dpvae_cli.studies.figures import KINDS
from dpvae_cli.studies.schema import Study

NOT_THAT = {"dict_type": "is not a mapping", "model_attributes_type": "is not a figure"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def complaints(error: ValidationError, tree: ConfigDocument) -> list[ConfigIssue]:
    """Return one mistake for each place that pydantic complains about."""
    found: dict[KeyPath, ConfigIssue] = {}
    for detail in error.errors(include_url=False):
        path, kind = _path(detail["loc"])
        found.setdefault(
            path, ConfigIssue(tree.location(path), format_path(path), _problem(detail, kind))
        )
    return list(found.values())


def _path(loc: tuple[str | int, ...]) -> tuple[KeyPath, str | None]:
    """Return the path as written, without the union's tag, and the figure's kind."""
    if loc[:1] == ("figures",) and len(loc) > 2 and loc[2] in KINDS:
        return (*loc[:2], *loc[3:]), str(loc[2])
    return loc, None


def _problem(detail: ErrorDetails, kind: str | None) -> str:
    error_type, given = detail["type"], detail["input"]
    if error_type == "extra_forbidden":
        allowed = keys(KINDS[kind] if kind else Study)
        return f"unknown key (given {format_value(given)})" + _among(
            str(detail["loc"][-1]), allowed
        )
    if error_type in ("union_tag_invalid", "union_tag_not_found"):
        return f"{format_value(given)} has no kind there is" + _among(_kind(given), KINDS)
    if error_type == "missing" and isinstance(given, dict):
        return f"is missing; {_described(str(detail['loc'][-1]))}"
    if error_type == "value_error":
        return f"{format_value(given)} {detail['msg'].removeprefix('Value error, ')}"
    problem = NOT_THAT.get(error_type) or PROBLEMS.get(error_type) or f": {detail['msg']}"
    return f"{format_value(given)} {problem}{_allowed(detail)}"


def _kind(given: Any) -> str:
    return str(given.get("kind", "")) if isinstance(given, dict) else ""


def _among(word: str, allowed: Iterable[str]) -> str:
    candidates = list(allowed)
    return f"{did_you_mean(word, candidates)}; allowed: {', '.join(candidates)}"


def _described(key: str) -> str:
    """Return what a study's key is for."""
    info = Study.model_fields.get(key)
    return (info.description if info else None) or "it is needed"


def _allowed(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    if "expected" in context:
        return f"; allowed: {str(context['expected']).replace(chr(39), '')}"
    if "min_length" in context:
        return f"; at least {context['min_length']}"
    bounds = [f"{word} {context[name]}" for name, word in BOUNDS.items() if name in context]
    if detail["type"] == "tuple_type":
        return "; write [a, b]"
    return f"; allowed: {', '.join(bounds)}" if bounds else ""
