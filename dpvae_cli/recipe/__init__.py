"""Layer 2: recipes. The schema, YAML with line numbers, overrides and error messages.

Names are imported when first asked for: the catalogue can be listed without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpvae_cli.recipe.dump import digest, from_dict, to_dict, to_yaml
    from dpvae_cli.recipe.editor_schema import json_schema
    from dpvae_cli.recipe.loading import load
    from dpvae_cli.recipe.mistakes import Mistake, RecipeError
    from dpvae_cli.recipe.schema import Evaluation, Fitting, Recipe, Training

_PLACES = {
    "Evaluation": "schema",
    "Fitting": "schema",
    "Mistake": "mistakes",
    "Recipe": "schema",
    "RecipeError": "mistakes",
    "Training": "schema",
    "digest": "dump",
    "from_dict": "dump",
    "json_schema": "editor_schema",
    "load": "loading",
    "to_dict": "dump",
    "to_yaml": "dump",
}

__all__ = [
    "Evaluation",
    "Fitting",
    "Mistake",
    "Recipe",
    "RecipeError",
    "Training",
    "digest",
    "from_dict",
    "json_schema",
    "load",
    "to_dict",
    "to_yaml",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
