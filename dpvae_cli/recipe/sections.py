"""What the schema allows where: kinds, keys, and each field's values in plain words."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.formatting import did_you_mean
from dpvae_cli.recipe.issues import KeyPath
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe, specs

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
        raise UsageError(
            f"{section}={word!r} is not a kind{did_you_mean(word, allowed)}",
            hint=f"Words: {', '.join(allowed)}.",
        )
    return allowed[word]()


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
        arrays = [branch for branch in branches(schema) if branch.get("type") == "array"]
        if not arrays:
            return {}
        fixed = arrays[0].get("prefixItems")
        schema = fixed[min(int(index), len(fixed) - 1)] if fixed else arrays[0].get("items", {})
    return dict(schema)


@cache
def _properties(owner: type[BaseModel]) -> dict[str, Any]:
    return dict(owner.model_json_schema()["properties"])


def branches(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a schema, or itself alone."""
    return list(schema.get("anyOf", [schema]))


def allowed_words(schema: dict[str, Any]) -> list[str]:
    """Return the words a schema accepts by name."""
    return [word for branch in branches(schema) for word in branch.get("enum", [])]


def describe_schema(schema: dict[str, Any]) -> str:
    """Return what a schema accepts, in plain words: `a whole number, at least 1`."""
    found = []
    for branch in branches(schema):
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
