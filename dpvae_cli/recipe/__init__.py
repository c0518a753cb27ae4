"""Layer 2: recipes. The schema, YAML with line numbers, overrides and error messages.

Names are imported when first asked for: recipes can be listed without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpvae_cli.recipe.document import ConfigIssue as ConfigIssue
    from dpvae_cli.recipe.document import RecipeError as RecipeError
    from dpvae_cli.recipe.loading import digest as digest
    from dpvae_cli.recipe.loading import from_dict as from_dict
    from dpvae_cli.recipe.loading import load_recipe as load_recipe
    from dpvae_cli.recipe.loading import to_dict as to_dict
    from dpvae_cli.recipe.loading import to_yaml as to_yaml
    from dpvae_cli.recipe.loading import with_overrides as with_overrides
    from dpvae_cli.recipe.reference import json_schema as json_schema
    from dpvae_cli.recipe.schema import Evaluation as Evaluation
    from dpvae_cli.recipe.schema import Fitting as Fitting
    from dpvae_cli.recipe.schema import Recipe as Recipe
    from dpvae_cli.recipe.schema import Training as Training

_NAMES = {
    "document": ("ConfigIssue", "RecipeError"),
    "loading": ("digest", "from_dict", "load_recipe", "to_dict", "to_yaml", "with_overrides"),
    "reference": ("json_schema",),
    "schema": ("Evaluation", "Fitting", "Recipe", "Training"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
