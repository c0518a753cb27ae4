"""A resolved recipe as YAML, plain JSON types or a short digest, with all defaults resolved."""

import hashlib
import json
import re
from typing import Any

import yaml

from dpvae_cli.recipe.document import plain_scalar
from dpvae_cli.recipe.schema import Recipe

LINE_LENGTH = 88
SAFE_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
YAML_1_1_WORDS = ("on", "off", "yes", "no", "y", "n")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe in plain JSON types: sections in the schema's order, `kind` first."""
    plain = recipe.model_dump(mode="json", by_alias=True)
    for key, value in plain.items():
        if isinstance(value, dict) and "kind" in value:
            plain[key] = {"kind": value["kind"], **value}
    return plain


def digest(recipe: Recipe) -> str:
    """Return 8 hexadecimal digits of what the recipe says, whatever its name."""
    canonical = json.dumps(to_dict(recipe), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML that reads back as an equal one.

    Example:
        >>> from dpvae_cli.recipe import load_recipe, to_yaml
        >>> to_yaml(load_recipe("beta_h_moons")).splitlines()[:2]
        ['data:', '  kind: moons']
    """
    return "".join(f"{line}\n" for line in _mapping(to_dict(recipe), indent=""))


def _mapping(values: dict[str, Any], *, indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        start = f"{indent}{key}:"
        if isinstance(value, dict):
            lines += [start, *_mapping(value, indent=indent + "  ")]
        elif isinstance(value, list) and len(start) + len(_flow(value)) >= LINE_LENGTH:
            lines += [start, *(f"{indent}  - {_flow(item)}" for item in value)]
        else:
            lines.append(f"{start} {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, str):  # plain where every YAML reader takes it for a string
        is_word = SAFE_WORD.fullmatch(value) and value.lower() not in YAML_1_1_WORDS
        if is_word and plain_scalar(value) == value:
            return value
        quoted = yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True)
        return str(quoted).strip()
    if isinstance(value, float):  # the shortest exact spelling, with the point of YAML 1.1
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + (".0" if e and "." not in mantissa else "") + e + exponent
    return json.dumps(value)
