"""The `dpvae` command, put together; nothing heavy is imported before a command runs."""

import os
from importlib import import_module
from typing import Annotated, Any, final

import typer
from typer.core import TyperGroup

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import recipe_key_hint
from dpvae_cli.cli.options import examples
from dpvae_cli.version import __version__

SECTIONS = {
    "Train": ("train", "fit-prior"),
    "Look": ("sample", "reconstruct", "traverse", "explore", "plot", "encode", "export"),
    "Measure": ("eval", "diagnose", "report"),
    "Reproduce the paper": ("reproduce", "recipes", "models"),
    "Check the installation": ("doctor",),
}
"""All commands; each is a function, or a group, of the name of its module."""
MAX_SUMMARY = 65
"""Characters of a command's summary, so that lines fit into 80."""


@final
class Commands(TyperGroup):
    """The commands, in sections; an unknown option that is a recipe key gets a hint."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of the help text."""
        width = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", self.commands[name].get_short_help_str(MAX_SUMMARY))
                        for name in names
                    ]
                )

    def invoke(self, ctx: Any) -> Any:
        """Run a command; `--iterations 5` is answered with `training.iterations=5`."""
        words = list(ctx.args)
        try:
            return super().invoke(ctx)
        except Exception as caught:
            error: Any = caught
            # by its version typer needs click or ships it: the class has no fixed module
            if type(error).__name__ == "NoSuchOption":
                hint = recipe_key_hint(error.option_name, words)
                if hint:
                    error.message, error.possibilities = error.message + hint, None
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is a third faster
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


for name in (name for names in SECTIONS.values() for name in names):
    function = {"eval": "evaluate"}.get(name, name.replace("-", "_"))
    module = import_module(f"dpvae_cli.cli.{function}")
    command = getattr(module, function)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name, epilog=module.EXAMPLES)(command)


def main() -> None:
    """Run the command line."""
    console.open_closed_streams()
    console.survive_closed_stderr()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's may not be installed here
    console.configure_encoding()
    app(prog_name="dpvae")
