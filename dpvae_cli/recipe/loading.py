"""From a name or a file and overrides to a frozen recipe, or to all that is wrong with them."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dpvae_cli.recipe import overrides as key_values
from dpvae_cli.recipe.catalogue import locate, run_name
from dpvae_cli.recipe.complaints import complaints
from dpvae_cli.recipe.mistakes import Mistake, RecipeError
from dpvae_cli.recipe.overrides import Override
from dpvae_cli.recipe.reading import Tree, read_file
from dpvae_cli.recipe.schema import Recipe


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the resolved recipe: defaults, then the file, then the overrides in order.

    Raises:
        RecipeError: with every mistake of the file and the overrides.
    """
    parsed, mistakes = key_values.parse(overrides)
    return resolved(locate(str(name_or_path)), parsed, mistakes)


def resolved(path: Path, overrides: Sequence[Override], mistakes: Sequence[Mistake] = ()) -> Recipe:
    """Return the recipe of a file with overrides that are read already.

    Args:
        path: the recipe file.
        overrides: applied in order, so that the last one wins.
        mistakes: what is wrong with the overrides so far.

    Raises:
        RecipeError: with every mistake of the file and the overrides.
    """
    try:
        tree = read_file(path)
    except RecipeError as error:
        raise RecipeError([*error.mistakes, *mistakes], hint=error.hint) from error
    tree.mistakes.extend(mistakes)
    key_values.apply(tree, overrides)
    return checked(tree).named(run_name(path))


def checked(tree: Tree) -> Recipe:
    """Return what was written as a recipe.

    Raises:
        RecipeError: with every mistake, by line.
    """
    mistakes: list[Mistake] = list(tree.mistakes)
    try:
        recipe = Recipe.model_validate(tree.values)
    except ValidationError as error:
        mistakes += complaints(error, tree)
    if mistakes:
        raise RecipeError(sorted(mistakes))
    return recipe
