"""`dpvae recipes`: list, show, copy and check recipes. Nothing heavy is imported for listing."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_recipe
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import examples
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.text import path_exists

OVERRIDE = re.compile(r"[\w.]+\s*=")

recipes = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, copy and check recipes.",
    epilog=examples("dpvae recipes ls", "dpvae recipes show beta_h_moons"),
)

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe's name or file.", autocompletion=complete_recipe
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="e.g. prior=standard_normal seed=1"),
]


@recipes.command(epilog=examples("dpvae recipes ls"))
@handle_errors
def ls() -> None:
    """List the packaged recipes."""
    from dpvae_cli.recipe import document

    rows = [[name, document.recipe_title(name)] for name in document.recipe_names()]
    console.table(None, ["recipe", "what it is"], rows)


@recipes.command(
    epilog=examples(
        "dpvae recipes show beta_h_moons",
        "dpvae recipes show beta_h_moons prior=standard_normal training.iterations=2000",
        "dpvae recipes show mine.yaml > resolved.yaml",
    )
)
@handle_errors
def show(
    recipe: RecipeName,
    overrides: Overrides = None,
) -> None:
    """Print a recipe with overrides applied and all defaults resolved."""
    from dpvae_cli.recipe import load_recipe, to_yaml

    console.result(to_yaml(load_recipe(recipe, overrides or [])))


@recipes.command(
    epilog=examples(
        "dpvae recipes cp beta_h_moons mine.yaml",
        "dpvae recipes cp factor_mnist experiments/ --force",
    )
)
@handle_errors
def cp(
    recipe: RecipeName,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new file, or a folder.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Copy a recipe with its comments to a new file, and print its path."""
    from dpvae_cli.foundation.files import write_text
    from dpvae_cli.recipe import document

    source = document.locate_recipe(recipe)
    is_folder = destination.is_dir() or not (destination.suffix or destination.exists())
    target = destination / source.name if is_folder else destination
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint="--force overwrites it.")
    write_text(target, document.text_of(source))
    console.result(str(target))
    console.note(f"Train it with: dpvae train {target}")


@recipes.command(
    epilog=examples(
        "dpvae recipes validate mine.yaml",
        "dpvae recipes validate recipes/*.yaml",
        "dpvae recipes validate mine.yaml regularizer.beta=8",
    )
)
@handle_errors
def validate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|KEY=VALUE",
            help="Recipes, and overrides to check with each of them.",
            autocompletion=complete_recipe,
        ),
    ],
) -> None:
    """Check recipes without running them; print all mistakes at once."""
    from dpvae_cli.recipe import ConfigIssue, RecipeError, load_recipe

    overrides = [word for word in words if OVERRIDE.match(word) and not path_exists(word)]
    files = [word for word in words if word not in overrides]
    if not files:
        raise UsageError(
            "which recipe?", hint="Name a file first: dpvae recipes validate mine.yaml"
        )
    issues: list[ConfigIssue] = []
    for file in files:
        try:
            load_recipe(file, overrides)
            console.result(f"{file}: ok")
        except RecipeError as error:
            issues += error.issues
    if issues:
        raise RecipeError(list(dict.fromkeys(issues)))


@recipes.command(epilog=examples("dpvae recipes schema > dpvae-recipe.schema.json"))
@handle_errors
def schema() -> None:
    """Print the JSON Schema of recipes, for completion and checks in editors."""
    from dpvae_cli.recipe import json_schema

    console.result(json.dumps(json_schema(), indent=2))
