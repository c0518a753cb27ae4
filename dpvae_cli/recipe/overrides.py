"""`key=value` on the command line: `training.iterations=2000`, `prior=standard_normal`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.recipe.mistakes import KeyPath, Mistake, Place, shortened, shown
from dpvae_cli.recipe.reading import Tree, UnreadableError, read_value
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe


@final
@dataclass(frozen=True)
class Override:
    """One value for a section, or for a field of one."""

    path: KeyPath
    value: Any
    place: Place


def parse(overrides: Sequence[str]) -> tuple[list[Override], list[Mistake]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parsed: list[Override] = []
    mistakes: list[Mistake] = []
    for index, text in enumerate(overrides):
        key, equals, value = text.partition("=")
        key = key.strip()
        place = Place((1, index), f"override {shortened(text, length=100)}", key)
        problem = _complaint(key, equals, value)
        try:
            if problem is None:
                parsed.append(Override(tuple(key.split(".")), read_value(value), place))
        except UnreadableError as error:
            problem = f"{error.problem} (character {error.column} of the value)"
        if problem is not None:
            mistakes.append(Mistake(place, key, problem))
    return parsed, mistakes


def _complaint(key: str, equals: str, value: str) -> str | None:
    if not equals or not all(key.split(".")):
        return "an override is key=value, such as seed=1 or training.iterations=2000"
    if (problem := key_complaint(key)) is not None:
        return problem
    if not value.strip():
        return "there is no value after ="
    return None


def key_complaint(key: str) -> str | None:
    """Return why a key can name no part of a recipe, or None where it may."""
    parts = key.split(".")
    if len(parts) > 2 or not all(parts):
        return "a key is `section` or `section.field`; nothing lies deeper"
    return None


def apply(tree: Tree, overrides: Sequence[Override]) -> None:
    """Write the overrides over the tree in order, so that the last one wins."""
    for override in overrides:
        section, *field = (str(part) for part in override.path)
        if not field:
            tree.put(override.path, override.value, override.place)
        elif field == ["kind"] and section in SECTIONS_WITH_KIND:
            tree.put((section,), {"kind": override.value}, override.place)
        else:
            _put_field(tree, section, override)


def _put_field(tree: Tree, section: str, override: Override) -> None:
    """Write one field; a section that is not there or is a bare word is written out first."""
    fields = tree.values.get(section, _defaults(section))
    if isinstance(fields, str) and section in SECTIONS_WITH_KIND:
        fields = {"kind": fields}
    if not isinstance(fields, dict):
        problem = f"{section} is {shown(fields)}, which has no fields"
        tree.mistakes.append(Mistake(override.place, override.place.key, problem))
        return
    tree.values[section] = fields
    tree.places.setdefault((section,), override.place)
    tree.put(override.path, override.value, override.place)


def _defaults(section: str) -> dict[str, str]:
    """Return the section as it stands in a recipe that does not mention it."""
    field = Recipe.model_fields.get(section)
    kind = getattr(field.default, "kind", None) if field else None
    return {} if kind is None else {"kind": kind}
