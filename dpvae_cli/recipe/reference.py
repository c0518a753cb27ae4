"""The recipe's reference, made from its schema: Markdown tables, and JSON Schema for editors.

`docs/recipes.md` holds the tables; refresh it after a change of the schema:
`python -m dpvae_cli.recipe.reference PAGE`.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.spec import remove_example
from dpvae_cli.foundation.text import replace_between
from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe
from dpvae_cli.recipe.validation import describe_schema, field_schema, kinds, spec_class

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
HEAD = "| key | allowed | default | what it is |\n|---|---|---|---|"


def field_tables() -> str:
    """Return a heading, a description and a table of fields for every section and kind."""
    parts = []
    for section, info in Recipe.model_fields.items():
        parts.append(f"### `{section}`")
        by_kind, alone = kinds(section), spec_class(section, None)
        for kind, spec in by_kind.items():
            parts += [f"#### `{section}: {kind}`", _text(spec), _fields(spec, section, kind)]
        if alone is not None:
            parts += [_text(alone), _fields(alone, section, None)]
        elif not by_kind:
            parts.append(f"{HEAD}\n{_row(section, info, field_schema((section,), None))}")
    return "\n\n".join(filter(None, parts))


def update_page(page: str) -> str:
    """Return the page with the tables between its two markers made anew.

    Raises:
        UsageError: the page has no such markers.
    """
    return replace_between(page, BEGIN, END, field_tables())


def _text(spec: type[BaseModel]) -> str:
    return remove_example(inspect.getdoc(spec) or "")


def _fields(spec: type[BaseModel], section: str, kind: str | None) -> str:
    """Return the table of all fields but `kind`, or nothing where there are no others."""
    rows = []
    for name, info in spec.model_fields.items():
        if name != "kind":
            key = info.alias or name
            rows.append(_row(key, info, field_schema((section, key), kind)))
    return "\n".join([HEAD, *rows]) if rows else ""


def _row(key: str, info: FieldInfo, schema: dict[str, Any]) -> str:
    default = "required"
    if not info.is_required():
        value = info.default if isinstance(info.default, str) else json.dumps(info.default)
        default = f"`{value}`"
    cells = [f"`{key}`", describe_schema(schema), default, info.description or ""]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe file, bare words included.

    Rules across sections, such as masks that fit the latent size, are beyond it:
    `dpvae recipes validate` knows them.
    """
    schema = Recipe.model_json_schema(by_alias=True)
    for section in SECTIONS_WITH_KIND:
        words = []
        for kind, spec in kinds(section).items():
            if not any(field.is_required() for field in spec.model_fields.values()):
                words.append(kind)
            definition = schema["$defs"][spec.__name__]
            required = ["kind", *definition.get("required", [])]
            definition["required"] = list(dict.fromkeys(required))  # two sections share some kinds
        alternatives = [{"type": "string", "enum": words}, schema["properties"][section]]
        schema["properties"][section] = {"title": section, "anyOf": alternatives}
    return {"$schema": DIALECT, **schema, "title": "dpvae recipe"}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_text(path, update_page(path.read_text(encoding="utf-8")))
