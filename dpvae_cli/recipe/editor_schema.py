"""The recipe's JSON Schema, for editors: completion, descriptions and checks while typing."""

from typing import Any

from dpvae_cli.recipe.schema import SECTIONS_WITH_KIND, Recipe
from dpvae_cli.recipe.sections import kinds

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
