"""`key=value` on the command line: `training.iterations=2000`, `prior=standard_normal`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.recipe.issues import ConfigIssue, KeyPath, SourceLocation, format_value, truncate
from dpvae_cli.recipe.reading import ConfigDocument, YamlError, read_value
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe


@final
@dataclass(frozen=True)
class Override:
    """One value for a section, or for a field of one."""

    path: KeyPath
    value: Any
    location: SourceLocation


def parse_overrides(overrides: Sequence[str]) -> tuple[list[Override], list[ConfigIssue]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parsed: list[Override] = []
    issues: list[ConfigIssue] = []
    for index, text in enumerate(overrides):
        key, equals, value = text.partition("=")
        key = key.strip()
        location = SourceLocation((1, index), f"override {truncate(text, length=100)}", key)
        if not equals or not all(key.split(".")):
            problem = "an override is key=value, such as seed=1 or training.iterations=2000"
        else:
            problem = key_error(key) or ("" if value.strip() else "there is no value after =")
        try:
            if not problem:
                parsed.append(Override(tuple(key.split(".")), read_value(value), location))
        except YamlError as error:
            problem = f"{error.problem} (character {error.column} of the value)"
        if problem:
            issues.append(ConfigIssue(location, key, problem))
    return parsed, issues


def key_error(key: str) -> str | None:
    """Return why a key cannot be part of a recipe, or None where it may."""
    parts = key.split(".")
    if len(parts) > 2 or not all(parts):
        return "a key is `section` or `section.field`; nothing lies deeper"
    return None


def apply_overrides(document: ConfigDocument, overrides: Sequence[Override]) -> None:
    """Set the overrides in order, so that the last one wins; sections are created as needed."""
    for override in overrides:
        section, *field = (str(part) for part in override.path)
        if not field:
            document.set(override.path, override.value, override.location)
            continue
        if field == ["kind"] and section in SECTIONS_WITH_KIND:
            document.set((section,), {"kind": override.value}, override.location)
            continue
        default = Recipe.model_fields[section].default if section in Recipe.model_fields else None
        kind = getattr(default, "kind", None)
        fields = document.values.get(section, {} if kind is None else {"kind": kind})
        if isinstance(fields, str) and section in SECTIONS_WITH_KIND:
            fields = {"kind": fields}
        if not isinstance(fields, dict):
            problem = f"{section} is {format_value(fields)}, which has no fields"
            issue = ConfigIssue(override.location, override.location.key, problem)
            document.issues.append(issue)
            continue
        document.values[section] = fields
        document.locations.setdefault((section,), override.location)
        document.set(override.path, override.value, override.location)
