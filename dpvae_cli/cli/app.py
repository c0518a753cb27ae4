"""The `dpvae` command: puts the commands together. Nothing heavy is imported before one runs."""

from typing import Annotated

import typer

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
from dpvae_cli.cli.options import examples
from dpvae_cli.cli.recipes import recipes
from dpvae_cli.version import __version__

app = typer.Typer(
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
    console.outlive_stderr()
    console.speak_plainly()
    app(prog_name="dpvae")
