"""Pydantic's errors as mistakes of a study: the place they were written at, in plain words."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.foundation.formatting import did_you_mean
from dpvae_cli.recipe.document import (
    ConfigDocument,
    ConfigIssue,
    KeyPath,
    format_path,
    format_value,
)
from dpvae_cli.recipe.validation import PROBLEMS, keys
from dpvae_cli.studies.figures import KINDS
from dpvae_cli.studies.schema import Study

NOT_THAT = {"dict_type": "is not a mapping", "model_attributes_type": "is not a figure"}
BOUNDS = {"min_length": "at least", "ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def complaints(error: ValidationError, tree: ConfigDocument) -> list[ConfigIssue]:
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
    error_type, given = detail["type"], detail["input"]
    if error_type == "extra_forbidden":
        allowed = keys(KINDS[kind] if kind else Study)
        return f"unknown key (given {format_value(given)})" + _among(
            str(detail["loc"][-1]), allowed
        )
    if error_type in ("union_tag_invalid", "union_tag_not_found"):
        word = str(given.get("kind", "")) if isinstance(given, dict) else ""
        return f"{format_value(given)} has no kind there is" + _among(word, KINDS)
    if error_type == "missing" and isinstance(given, dict):
        field = Study.model_fields.get(str(detail["loc"][-1]))
        return f"is missing; {(field.description if field else None) or 'it is needed'}"
    if error_type == "value_error":
        return f"{format_value(given)} {detail['msg'].removeprefix('Value error, ')}"
    problem = NOT_THAT.get(error_type) or PROBLEMS.get(error_type) or f": {detail['msg']}"
    context: dict[str, Any] = detail.get("ctx", {})
    bounds = ", ".join(
        f"{word} {context[name]}" for name, word in BOUNDS.items() if name in context
    )
    expected = str(context.get("expected", bounds)).replace("'", "")
    right = f"; allowed: {expected}" if expected else ""
    right = "; write [a, b]" if error_type == "tuple_type" else right
    return f"{format_value(given)} {problem}{right}"


def _among(word: str, allowed: Iterable[str]) -> str:
    candidates = list(allowed)
    return f"{did_you_mean(word, candidates)}; allowed: {', '.join(candidates)}"
