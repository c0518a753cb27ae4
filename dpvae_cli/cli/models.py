"""`dpvae models`: list the trained models that come with the package."""

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import examples

models = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the packaged trained models.",
    epilog=examples("dpvae models ls", "dpvae sample beta_h_moons-decoupled"),
)


@models.callback()
def _models() -> None:
    """List the packaged trained models."""


@models.command(epilog=examples("dpvae models ls"))
@handle_errors
def ls() -> None:
    """List the packaged models; their names serve wherever a checkpoint or a run is asked for."""
    from dpvae_cli.runs.checkpoint import read_checkpoint
    from dpvae_cli.runs.packaged import packaged_names, resolve_packaged

    rows = []
    for name in packaged_names():
        file = resolve_packaged(name)
        assert file is not None
        checkpoint = read_checkpoint(file)
        recipe, codes = checkpoint.recipe, checkpoint.part("codes")["mean"]
        facts = (recipe.data.kind, recipe.regularizer.kind, recipe.prior_name)
        rows.append([name, *facts, f"{checkpoint.iteration:,}", f"{len(codes):,}"])
    heads = ["model", "data", "regularizer", "prior", "iterations", "codes"]
    console.table(None, heads, rows)
