"""Change a resolved recipe: what it derived once stays as it was resolved."""

from collections.abc import Sequence

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import overrides as key_values
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.recipe.loading import checked
from dpvae_cli.recipe.reading import read_text
from dpvae_cli.recipe.schema import Recipe


def revised(recipe: Recipe, overrides: Sequence[str], *, section: str | None = None) -> Recipe:
    """Return the recipe with overrides applied to its resolved form.

    Args:
        recipe: a resolved recipe.
        overrides: `key=value` as on the command line.
        section: where given, the only section that may change.

    Raises:
        RecipeError: with every mistake of the overrides.
        UsageError: an override is outside the section.
    """
    for override in overrides:
        if section is not None and not override.startswith(f"{section}."):
            raise UsageError(
                f"{override}: only {section}.KEY=VALUE may change here",
                hint=f"Keys: {', '.join(type(getattr(recipe, section)).model_fields)}.",
            )
    tree = read_text(to_yaml(recipe), recipe.name)
    parsed, mistakes = key_values.parse(overrides)
    tree.mistakes.extend(mistakes)
    key_values.apply(tree, parsed)
    return checked(tree).named(recipe.name)
