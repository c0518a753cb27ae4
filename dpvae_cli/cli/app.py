"""The `dpvae` command: puts the commands together. Nothing heavy is imported before one runs."""

import os
from collections.abc import Sequence
from typing import Annotated, Any, final

import typer
from typer.core import TyperGroup

from dpvae_cli.cli import (
    console,
    diagnose,
    doctor,
    encode,
    evaluate,
    fit_prior,
    plot,
    reconstruct,
    report,
    reproduce,
    sample,
    train,
    traverse,
)
from dpvae_cli.cli.completion import recipe_key_hint
from dpvae_cli.cli.options import examples
from dpvae_cli.cli.recipes import recipes
from dpvae_cli.version import __version__

SECTIONS = {
    "Train": ("train", "fit-prior"),
    "Look": ("sample", "reconstruct", "traverse", "plot", "encode"),
    "Measure": ("eval", "diagnose", "report"),
    "Reproduce the paper": ("reproduce", "recipes"),
    "Check the installation": ("doctor",),
}
LONGEST = 65
"""Characters of a command's summary, so that a line has 80."""


@final
class Commands(TyperGroup):
    """The commands, in sections; an unknown option that is a recipe's key gets told so."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of the help text."""
        width = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", self.commands[name].get_short_help_str(LONGEST))
                        for name in names
                    ]
                )

    def invoke(self, ctx: Any) -> Any:
        """Run a command; `--iterations 5` is answered with `training.iterations=5`."""
        words = list(ctx.args)
        try:
            return super().invoke(ctx)
        except Exception as error:
            # typer needs click or ships it, by version: the class has no common address
            if type(error).__name__ == "NoSuchOption":
                _point_to_recipe_key(error, words)
            raise


def _point_to_recipe_key(error: Any, words: Sequence[str]) -> None:
    """Say of an unknown option that a recipe has a key of that name, where one has."""
    hint = recipe_key_hint(error.option_name, words)
    if hint:
        error.message, error.possibilities = error.message + hint, None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers a third sooner
    pretty_exceptions_enable=False,
    help="Train, sample, evaluate, traverse and plot VAEs with decoupled priors.",
    epilog=examples(
        "dpvae train beta_h_moons",
        "dpvae train recipes/factor_mnist.yaml training.iterations=2000",
        "dpvae sample --low-posterior",
        "dpvae eval --metrics skl,nll,leak",
        "dpvae traverse",
        "dpvae reproduce moons_quick",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dpvae {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train, sample, evaluate, traverse and plot VAEs with decoupled priors."""


for module in (
    train,
    sample,
    reconstruct,
    encode,
    evaluate,
    diagnose,
    fit_prior,
    traverse,
    reproduce,
    report,
    doctor,
):
    module.register(app)
app.add_typer(plot.plot, name="plot")
app.add_typer(recipes, name="recipes")


def main() -> None:
    """Run the command line."""
    console.open_closed_streams()
    console.survive_closed_stderr()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is inherited, and may not be installed here
    console.configure_encoding()
    app(prog_name="dpvae")
