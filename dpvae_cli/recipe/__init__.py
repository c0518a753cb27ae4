"""Layer 2: recipes. The schema, YAML with line numbers, overrides and error messages."""

from dpvae_cli.recipe.schema import Evaluation, Recipe, Training

__all__ = ["Evaluation", "Recipe", "Training"]
