"""Layer 2: recipes. The schema, YAML with line numbers, overrides and error messages.

Names are imported when first asked for: the catalogue can be listed without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpvae_cli.recipe.dump import digest, to_dict, to_yaml
    from dpvae_cli.recipe.editor_schema import json_schema
    from dpvae_cli.recipe.issues import ConfigIssue, RecipeError
    from dpvae_cli.recipe.loading import from_dict, load_recipe, with_overrides
    from dpvae_cli.recipe.schema import Evaluation, Fitting, Recipe, Training

_MODULES = {
    "ConfigIssue": "issues",
    "Evaluation": "schema",
    "Fitting": "schema",
    "Recipe": "schema",
    "RecipeError": "issues",
    "Training": "schema",
    "digest": "dump",
    "from_dict": "loading",
    "json_schema": "editor_schema",
    "load_recipe": "loading",
    "to_dict": "dump",
    "to_yaml": "dump",
    "with_overrides": "loading",
}

__all__ = [
    "ConfigIssue",
    "Evaluation",
    "Fitting",
    "Recipe",
    "RecipeError",
    "Training",
    "digest",
    "from_dict",
    "json_schema",
    "load_recipe",
    "to_dict",
    "to_yaml",
    "with_overrides",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
