"""The packaged recipes: beside the package once installed, in `recipes/` of a checkout.

A recipe in a folder of `recipes/` is named with it: `as_published/beta_tc_mnist`.
"""

import os
from pathlib import Path

from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.text import did_you_mean, expand_user, path_exists
from dpvae_cli.recipe.document import ConfigIssue, RecipeError, SourceLocation, truncate

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
SUFFIXES = (".yaml", ".yml")
STUDIES = "studies"
"""A folder beside the recipes that holds no recipes."""
LIST = "All names: dpvae recipes ls"


def folder() -> Path:
    """Return the folder that holds the packaged recipes.

    Raises:
        MissingError: the installation has none.
    """
    for candidate in FOLDERS:
        if (candidate / "beta_h_moons.yaml").is_file():
            return candidate
    raise MissingError(
        "the packaged recipes are missing from " + " and ".join(map(str, FOLDERS)),
        hint="Reinstall dpvae-cli.",
    )


def names() -> list[str]:
    """Return the names of the packaged recipes, sorted, those in folders last."""
    base = folder()
    files = [path.relative_to(base) for path in base.rglob("*.yaml")]
    found = [path.with_suffix("").as_posix() for path in files if path.parts[0] != STUDIES]
    return sorted(found, key=lambda name: (name.count("/"), name))


def run_name(path: Path) -> str:
    """Return what a recipe's runs are called: `as_published/vae_svhn` is `as_published_vae_svhn`.

    Other files give their stem alone.
    """
    for base in FOLDERS:
        if path.resolve().is_relative_to(base.resolve()):
            return "_".join(path.resolve().with_suffix("").relative_to(base.resolve()).parts)
    return path.stem


def title(name: str) -> str:
    """Return the first line of a packaged recipe's header."""
    return first_line(folder() / f"{name}.yaml")


def first_line(path: Path) -> str:
    """Return the first line of a file's header, without its mark."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return first.lstrip("# ").rstrip()


def locate(name_or_path: str) -> Path:
    """Return the file of a packaged recipe, or the path itself.

    Raises:
        RecipeError: there is neither a packaged recipe nor a file of that name.
    """
    if name_or_path in names():
        return folder() / f"{name_or_path}.yaml"
    path = expand_user(name_or_path)
    if path_exists(path):
        return path
    if path.suffix in SUFFIXES or os.sep in name_or_path:
        bare = name_or_path.removesuffix(path.suffix if path.suffix in SUFFIXES else "")
        near = did_you_mean(bare, names())
        near = near or did_you_mean(path.stem, names())
        raise _unknown(name_or_path, "there is no such file" + near)
    own = [file.name for file in Path().glob(f"*{SUFFIXES[0]}")]
    raise _unknown(
        name_or_path,
        "there is no packaged recipe of that name" + did_you_mean(name_or_path, [*names(), *own]),
    )


def _unknown(name: str, problem: str) -> RecipeError:
    return RecipeError(
        [ConfigIssue(SourceLocation((0, 0), truncate(name, length=200)), "", problem)], hint=LIST
    )
