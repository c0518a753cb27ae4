"""`dpvae explore`: write a page on which one walks through the latent spaces of a run."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import CheckpointPath, examples
from dpvae_cli.cli.run_io import RunOptions, output_path, with_run_options

EXAMPLES = examples(
    "dpvae explore",
    "dpvae explore runs/factor_mnist-decoupled-seed0 --open",
    "dpvae explore runs/beta_h_moons-standard_normal-seed0 runs/beta_h_moons-decoupled-seed0",
)


@handle_errors
@with_run_options
def explore(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    twin: Annotated[
        Path | None,
        typer.Argument(metavar="TWIN", help="A second run of the same data, on the same page."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page (.html); without a suffix a folder (default: explore.html in the run "
            "folder)."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write a page to walk through z, z0 and x in a browser.

    Pockets are red and leaks are blue. Drag a point and see what it decodes to; draw a line from A
    to B that is straight in z, and one that is straight in z0. The page is one file with the model
    inside, and loads nothing.
    """
    import webbrowser

    from dpvae_cli.explorer.page import check_same_data, write_explore_page

    paths = [checkpoint] if twin is None else [checkpoint, twin]
    runs = [options.load(path) for path in paths]
    check_same_data(runs)
    default = runs[0].folder.path / "explore.html"
    path = output_path(out, default, suffixes=(".html",), what="pages")
    names = [
        shlex.quote(str(given or run.path.parent)) + " --best" * options.best
        for given, run in zip(paths, runs, strict=True)
    ]
    for note in write_explore_page(path, runs, names=names):
        console.note(note)
    console.result(str(path))
    if open_page:
        webbrowser.open(path.resolve().as_uri())
