"""`dpvae traverse`: walk through the latent spaces and decode every step."""

from typing import Annotated

import typer

from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.opening import note_units, opened
from dpvae_cli.cli.options import (
    MOST,
    Best,
    CheckpointPath,
    DataRoot,
    Device,
    NoDownload,
    Out,
    Seed,
    Space,
    examples,
)

EXAMPLES = examples(
    "dpvae traverse",
    "dpvae traverse runs/factor_mnist-decoupled-seed0 --between 3 18 --space both --gif",
    "dpvae traverse ckpt.pt --between 3 me.jpg --steps 15 --out walk.pdf",
    "dpvae traverse --dimensions 5 --from 7 --range 3",
    "dpvae traverse --grid --space both",
    "dpvae traverse --pairs 100",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(traverse)


@handle_errors
def traverse(
    checkpoint: CheckpointPath = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="I J",
            help="Walk between two examples: numbers in the test split, or picture files.",
            show_default=False,
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Sweep the N dimensions with the largest deviation under q(z), one at a time.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option("--grid", help="Decode a square of the latent space (latent_dim 2 alone)."),
    ] = False,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=MOST,
            help="Over N random pairs of test examples, compare the lowest log q(z) on lines in z "
            "and in z0.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        Space | None,
        typer.Option(
            help="Where walks are straight: z0 (generation), z, or both (default: z0, sweeps z).",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Sweep from this example (default: the first of --between, else 0).",
            show_default=False,
        ),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            "--range",
            min=0.0,
            max=1e6,
            help="Sweep so many standard deviations to either side (default: 5).",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000,
            help="Steps of each walk (default: 11, with --gif 41), points along a side of --grid "
            "(default: 20).",
            show_default=False,
        ),
    ] = None,
    gif: Annotated[
        bool, typer.Option("--gif", help="Write an animation too, there and back.")
    ] = False,
    out: Out = None,
    seed: Seed = 0,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Walk between two test examples and along single dimensions.

    A line is straight in z0 (a curve in z) or in z. Alone, the command draws the line between test
    examples 0 and 1 and sweeps five dimensions; with --between, --dimensions, --grid or --pairs it
    does what they ask for and nothing else. --between and --dimensions share a picture, --grid has
    one of its own, --pairs has none and goes with all of them. Beside the picture lie an .npz and
    a .json with the lowest log q(z) on every path.
    """
    from dpvae_cli.cli.traversals import Asked, carry_out, refuse_contradictions

    alone = not (between or dimensions or grid or pairs)
    asked = Asked(
        between=("0", "1") if alone else between,
        dimensions=5 if alone else dimensions,
        grid=grid,
        pairs=pairs,
        space=None if space is None else space.value,
        start=start,
        reach=reach,
        steps=steps,
        gif=gif,
        seed=seed,
    )
    refuse_contradictions(asked)
    found = opened(
        checkpoint, best=best, device=device, data_root=data_root, no_download=no_download
    )
    note_units(found)
    carry_out(asked, found, out)
