"""The packaged studies: in `studies/` beside the packaged recipes."""

from collections.abc import Sequence
from pathlib import Path

from dpvae_cli.foundation.text import did_you_mean, expand_user, path_exists
from dpvae_cli.recipe import document
from dpvae_cli.recipe.document import ConfigIssue, RecipeError, SourceLocation, truncate

LIST = "All names: dpvae reproduce"
HINT = "What a study holds: dpvae reproduce --help, and docs/reproduce.md"


def study_error(issues: Sequence[ConfigIssue], hint: str = HINT) -> RecipeError:
    """Return the error that holds all that is wrong with a study."""
    return RecipeError(issues, hint=hint, what="study")


def studies_folder() -> Path:
    """Return the folder that holds the packaged studies."""
    return document.recipe_folder() / document.STUDIES


def study_names() -> list[str]:
    """Return the names of the packaged studies, sorted."""
    return sorted(path.stem for path in studies_folder().glob("*.yaml"))


def study_title(name: str) -> str:
    """Return the first line of a packaged study's header."""
    return document.first_line(studies_folder() / f"{name}.yaml")


def locate_study(name_or_path: str) -> Path:
    """Return the file of a packaged study, or the path itself.

    Raises:
        RecipeError: there is neither a packaged study nor a file of that name.
    """
    if name_or_path in study_names():
        return studies_folder() / f"{name_or_path}.yaml"
    path = expand_user(name_or_path)
    if path_exists(path) and not path.is_dir():
        return path
    if path.suffix in document.SUFFIXES:
        problem = "there is no such file" + did_you_mean(path.stem, study_names())
    elif name_or_path in document.recipe_names():
        problem = f"this is a recipe, not a study; train it with: dpvae train {name_or_path}"
    else:
        problem = "there is no packaged study of that name" + did_you_mean(
            name_or_path, study_names()
        )
    place = SourceLocation((0, 0), truncate(name_or_path, length=200))
    raise study_error([ConfigIssue(place, "", problem)], LIST)
