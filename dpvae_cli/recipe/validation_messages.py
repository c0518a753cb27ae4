"""Pydantic's errors as issues of a recipe: where they were written, in plain words."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.architectures import AnyArchitecture
from dpvae_cli.foundation.formatting import did_you_mean
from dpvae_cli.priors import AnyPrior
from dpvae_cli.recipe.issues import ConfigIssue, KeyPath, format_path, format_value
from dpvae_cli.recipe.reading import ConfigDocument
from dpvae_cli.recipe.scalars import plain_scalar
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe, expand_shorthand
from dpvae_cli.recipe.sections import (
    allowed_words,
    describe_schema,
    field_schema,
    keys,
    kinds,
    spec_class,
)

PROBLEMS = {
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is neither true nor false",
    "string_type": "is not text",
    "tuple_type": "is not a list",
    "literal_error": "is not one of the words",
    "finite_number": "is not finite",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "missing": "has too few items",
    "too_short": "has too few items",
    "too_long": "has too many items",
}
WRONG_LENGTH = ("missing", "too_short", "too_long")
WRONG_KIND = ("union_tag_invalid", "union_tag_not_found", "model_attributes_type")
PRIORS = ("prior", "fit_prior")
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
YES_AND_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def issues_from(error: ValidationError, document: ConfigDocument) -> list[ConfigIssue]:
    """Return one issue for each place that pydantic reports."""
    values = expand_shorthand(document.values)
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(_path(detail), []).append(detail)
    # Every branch of a union reports its own errors; keep those of the branch that got furthest.
    shallow = {path[:length] for path in grouped for length in range(len(path))}
    issues = [
        ConfigIssue(document.location(path), format_path(path), _problem(path, details, values))
        for path, details in grouped.items()
        if path not in shallow
    ]
    for section in PRIORS:
        problem = _prior_error(section, values, {path[:1] for path in grouped})
        if problem is not None:
            issues.append(ConfigIssue(document.location((section,)), section, problem))
    return issues


def _path(detail: ErrorDetails) -> KeyPath:
    """Return where it is wrong, without union tags and names of union branches."""
    section, *rest = detail["loc"] or (detail["ctx"]["section"],)
    if section in SECTIONS_WITH_KIND:
        rest = rest[1:]
    indices = [part for part in rest[1:] if isinstance(part, int)]
    if detail["type"] in WRONG_LENGTH:
        indices = indices[:-1]
    return (section, *rest[:1], *indices)


def _prior_error(section: str, values: dict[str, Any], faulty: set[KeyPath]) -> str | None:
    """Return why a prior does not fit; pydantic checks that only in an otherwise valid recipe."""
    if faulty & {(section,), ("architecture",)} or "architecture" not in values:
        return None
    architecture = TypeAdapter[Any](AnyArchitecture).validate_python(values["architecture"])
    given = values.get(section, Recipe.model_fields[section].default)
    if given is None:
        return None
    prior = TypeAdapter[Any](AnyPrior).validate_python(given)
    problem: str | None = prior.validation_error(architecture.latent_dim)
    return problem


def _problem(path: KeyPath, details: Sequence[ErrorDetails], values: dict[str, Any]) -> str:
    error_type, given = details[0]["type"], details[0]["input"]
    section = values.get(str(path[0]))
    kind = section.get("kind") if isinstance(section, dict) else None
    if error_type == "extra_forbidden":
        return f"unknown key (given {format_value(given)})" + _right_key(path, kind, values)
    if error_type == "model_type":
        fields = ", ".join(keys(spec_class(str(path[0]), None) or Recipe))
        return f"{format_value(given)} is not a section; its fields: {fields}"
    if error_type in WRONG_KIND:
        return _wrong_kind(str(path[0]), given)
    if error_type == "missing" and isinstance(given, dict):
        in_section = f"is missing; {kind} needs it: {describe_schema(field_schema(path, kind))}"
        allowed = ", ".join(kinds(str(path[0])))
        return in_section if path[1:] else f"the section is missing; allowed kinds: {allowed}"
    if error_type in ("value_error", "prior"):
        message = details[0]["msg"].removeprefix("Value error, ")
        return message if isinstance(given, dict) else f"{format_value(given)}: {message}"
    return _wrong_value(path, details, kind)


def _right_key(path: KeyPath, kind: Any, values: dict[str, Any]) -> str:
    """Say which keys there are, which one was probably meant, and who else has this one."""
    section, name = str(path[0]), str(path[-1])
    spec = Recipe if len(path) == 1 else spec_class(section, kind)
    allowed = [] if spec is None else keys(spec)
    meant = did_you_mean(name, allowed)
    for other in Recipe.model_fields:  # another section of the recipe that has this key
        part = values.get(other)
        there = spec_class(other, part.get("kind") if isinstance(part, dict) else None)
        if there is not None and name in keys(there):
            meant = f"; did you mean {other}.{name}?"
            break
    owners = [other for other, spec in kinds(section).items() if name in keys(spec)]
    if len(path) == 2 and owners:
        meant = f"; {kind} has no {name}, {' and '.join(owners)} has"
    return f"{meant}; allowed: {', '.join(allowed)}"


def _wrong_kind(section: str, given: Any) -> str:
    allowed = f"; allowed kinds: {', '.join(kinds(section))}"
    if not isinstance(given, dict):
        problem = "is not a section; write a kind or {kind: ..., field: ...}"
        return f"{format_value(given)} {problem}{allowed}"
    if "kind" not in given:
        return f"the section has no kind{allowed}"
    kind = given["kind"]
    meant = did_you_mean(kind, kinds(section)) if isinstance(kind, str) else ""
    return f"unknown kind {format_value(kind)}{meant}{allowed}"


def _wrong_value(path: KeyPath, details: Sequence[ErrorDetails], kind: Any) -> str:
    """Say what is wrong with a value by its type or range, and what the field allows."""
    given, error_type = details[0]["input"], details[0]["type"]
    schema = field_schema(path, kind)
    if len(details) > 1:
        problem = f"{format_value(given)} is not allowed"
    elif error_type in PROBLEMS:
        problem = f"{format_value(given)} {PROBLEMS[error_type]}"
    else:
        problem = f"{format_value(given)}: {details[0]['msg']}"
    allowed = f"; allowed: {describe_schema(schema)}" if schema else ""
    return f"{problem}{_right_value(given, schema)}{allowed}"


def _right_value(given: Any, schema: dict[str, Any]) -> str:
    """Return `; did you mean ...?` for misspelled words and for numbers written as text."""
    wanted = describe_schema(schema)
    if isinstance(given, (int, float)) and wanted == "text":
        return "; put it in quotes"
    if isinstance(given, float) and given.is_integer() and "whole number" in wanted:
        return f"; did you mean {int(given)}?"
    if not isinstance(given, str):
        return ""
    if "true" in wanted and given.lower() in YES_AND_NO:
        return f"; did you mean {YES_AND_NO[given.lower()]}?"
    if "number" in wanted:  # 0,05 is 0.05, 10,000 is 10000
        text = given.replace("_", "").strip()
        if DECIMAL_COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text):
            text = text.replace(",", ".")
        number = plain_scalar(text.replace(",", ""))
        if isinstance(number, (int, float)):
            return f"; did you mean {number}?"
    return did_you_mean(given, allowed_words(schema))
