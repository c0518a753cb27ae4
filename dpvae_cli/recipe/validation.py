"""What the schema allows where, in plain words, and pydantic's errors as issues of a recipe."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dpvae_cli.architectures import AnyArchitecture
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.text import did_you_mean
from dpvae_cli.priors import AnyPrior, LearnedPrior
from dpvae_cli.recipe.document import (
    ConfigDocument,
    ConfigIssue,
    KeyPath,
    format_path,
    format_value,
    plain_scalar,
)
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe, expand_shorthand, specs

WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a section of fields",
}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
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
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
YES_AND_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def kinds(section: str) -> dict[str, type[BaseModel]]:
    """Return the spec classes of a section by kind."""
    if section not in SECTIONS_WITH_KIND:
        return {}
    return {spec.model_fields["kind"].default: spec for spec in specs(section)}


def spec_by_name(section: str, word: str) -> Any:
    """Return the spec of a kind with its defaults.

    Raises:
        UsageError: there is no such kind.
    """
    allowed = kinds(section)
    if word not in allowed:
        if (reason := _post_hoc_reason(section, word)) is not None:
            raise UsageError(
                reason, hint=f"Fit it to a trained VAE: dpvae.fit_prior(..., {word!r})."
            )
        raise UsageError(
            f"{section}={word!r} is not a kind{did_you_mean(word, allowed)}",
            hint=f"Words: {', '.join(allowed)}.",
        )
    return allowed[word]()


def _post_hoc_reason(section: str, kind: Any) -> str | None:
    """Return why a kind of prior cannot be trained with the VAE; None for all others."""
    fitted: Any = kinds("fit_prior").get(kind) if isinstance(kind, str) else None
    if section != "prior" or fitted is None or fitted.post_hoc_reason is None:
        return None
    return f"a {kind} prior cannot be trained with the VAE: {fitted.post_hoc_reason}"


def spec_class(section: str, kind: Any) -> type[BaseModel] | None:
    """Return the class of a section of that kind, or None where there is none."""
    if section in SECTIONS_WITH_KIND:
        return kinds(section).get(kind) if isinstance(kind, str) else None
    field = Recipe.model_fields.get(section)
    annotation: Any = field.annotation if field else None
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


def paths_of_key(name: str) -> list[str]:
    """Return where a recipe has a key of that name: `iterations` is at `training.iterations`."""
    paths = [name] if name in Recipe.model_fields else []
    for section in Recipe.model_fields:
        classes = [*kinds(section).values(), spec_class(section, None)]
        if any(spec is not None and name in keys(spec) for spec in classes):
            paths.append(f"{section}.{name}")
    return paths


def keys(spec: type[BaseModel]) -> list[str]:
    """Return the keys of a section as written in YAML."""
    return [info.alias or name for name, info in spec.model_fields.items()]


def field_schema(path: KeyPath, kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of a field, or of an item in it; empty where there is none."""
    owner = Recipe if len(path) == 1 else spec_class(str(path[0]), kind)
    if owner is None or not path:
        return {}
    name, *indices = path[:1] if owner is Recipe else path[1:]
    schema = _properties(owner).get(str(name), {})
    for index in indices:
        arrays = [branch for branch in _branches(schema) if branch.get("type") == "array"]
        if not arrays:
            return {}
        fixed = arrays[0].get("prefixItems")
        schema = fixed[min(int(index), len(fixed) - 1)] if fixed else arrays[0].get("items", {})
    return dict(schema)


@cache
def _properties(owner: type[BaseModel]) -> dict[str, Any]:
    return dict(owner.model_json_schema()["properties"])


def _branches(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a schema, or itself alone."""
    return list(schema.get("anyOf", [schema]))


def describe_schema(schema: dict[str, Any]) -> str:
    """Return what a schema accepts, in plain words: `a whole number, at least 1`."""
    found = []
    for branch in _branches(schema):
        if "enum" in branch or "const" in branch:
            found.append(", ".join(map(str, branch.get("enum", [branch.get("const")]))))
        elif fixed := branch.get("prefixItems"):
            found.append(f"a list of {len(fixed)} (each {describe_schema(fixed[0])})")
        elif "items" in branch:
            found.append(f"a list (each {describe_schema(branch['items'])})")
        else:
            bounds = {word: branch[name] for name, word in BOUNDS.items() if name in branch}
            numbers = [
                f"{word} {bound:{',' if isinstance(bound, int) else 'g'}}"
                for word, bound in bounds.items()
            ]
            found.append(", ".join([WORDS[branch.get("type", "object")], *numbers]))
    return " or ".join(found)


def issues_from(error: ValidationError, document: ConfigDocument) -> list[ConfigIssue]:
    """Return one issue for each place that pydantic reports."""
    values = expand_shorthand(document.values)
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        # The place, without the tag of a section's kind and the names of union branches.
        section, *rest = detail["loc"] or (detail["ctx"]["section"],)
        rest = rest[1:] if section in SECTIONS_WITH_KIND else rest
        indices = [part for part in rest[1:] if isinstance(part, int)]
        indices = indices[:-1] if detail["type"] in WRONG_LENGTH else indices
        grouped.setdefault((section, *rest[:1], *indices), []).append(detail)
    # Every branch of a union reports its own errors; keep those of the branch that got furthest.
    shallow = {path[:length] for path in grouped for length in range(len(path))}
    problems = [
        (path, _problem(path, details, values))
        for path, details in grouped.items()
        if path not in shallow
    ]
    # Whether a prior fits, pydantic checks only in an otherwise valid recipe.
    faulty = {path[0] for path in grouped}
    unions: dict[str, Any] = {"prior": AnyPrior, "fit_prior": LearnedPrior}
    for name, union in unions.items():
        given = values.get(name, Recipe.model_fields[name].default)
        if not faulty & {name, "architecture"} and "architecture" in values and given is not None:
            architecture = TypeAdapter[Any](AnyArchitecture).validate_python(values["architecture"])
            prior = TypeAdapter[Any](union).validate_python(given)
            if problem := prior.validation_error(architecture.latent_dim):
                problems.append(((name,), problem))
    return [
        ConfigIssue(document.location(path), format_path(path), problem)
        for path, problem in problems
    ]


def _problem(path: KeyPath, details: Sequence[ErrorDetails], values: dict[str, Any]) -> str:
    """Say what is wrong, and what would be right."""
    error_type, given = details[0]["type"], details[0]["input"]
    name, shown = str(path[0]), format_value(given)
    section = values.get(name)
    kind = section.get("kind") if isinstance(section, dict) else None
    allowed = f"; allowed kinds: {', '.join(kinds(name))}"
    schema = field_schema(path, kind)
    if error_type == "extra_forbidden":
        problem = f"unknown key (given {shown})" + _right_key(path, kind, values)
    elif error_type == "model_type":
        fields = ", ".join(keys(spec_class(name, None) or Recipe))
        problem = f"{shown} is not a section; its fields: {fields}"
    elif error_type in WRONG_KIND and not isinstance(given, dict):
        problem = f"{shown} is not a section; write a kind or {{kind: ..., field: ...}}{allowed}"
    elif error_type in WRONG_KIND and "kind" in given:
        word = given["kind"]
        meant = did_you_mean(word, kinds(name)) if isinstance(word, str) else ""
        problem = f"unknown kind {format_value(word)}{meant}{allowed}"
        if (reason := _post_hoc_reason(name, word)) is not None:
            problem = f"{reason}; use fit_prior={word} or dpvae fit-prior --prior {word}"
    elif error_type in WRONG_KIND:
        problem = f"the section has no kind{allowed}"
    elif error_type == "missing" and isinstance(given, dict):
        in_section = f"is missing; {kind} needs it: {describe_schema(schema)}"
        problem = in_section if path[1:] else f"the section is missing{allowed}"
    elif error_type in ("value_error", "prior"):
        message = details[0]["msg"].removeprefix("Value error, ")
        problem = message if isinstance(given, dict) else f"{shown}: {message}"
    else:
        problem = f" {PROBLEMS[error_type]}" if error_type in PROBLEMS else f": {details[0]['msg']}"
        problem = shown + (" is not allowed" if len(details) > 1 else problem)
        problem += _right_value(given, schema)
        problem += f"; allowed: {describe_schema(schema)}" if schema else ""
    return problem


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
    words = [word for branch in _branches(schema) for word in branch.get("enum", [])]
    return did_you_mean(given, words)
