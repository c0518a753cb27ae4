"""`dpvae traverse`: walk through the latent spaces and decode every step."""

from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.opening import opened, outputs
from dpvae_cli.cli.options import (
    Best,
    CheckpointPath,
    DataRoot,
    Device,
    NoDownload,
    Out,
    Space,
    examples,
)

if TYPE_CHECKING:
    from dpvae_cli.foundation.shapes import Codes
    from dpvae_cli.training.opened import Opened

EXAMPLES = examples(
    "dpvae traverse",
    "dpvae traverse runs/factor_mnist-decoupled-seed0 --between 3 18",
    "dpvae traverse ckpt.pt --space z --steps 15 --out walk.pdf",
    "dpvae traverse --dimensions 3 --range 2",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(traverse)


@console.guarded
def traverse(
    checkpoint: CheckpointPath = None,
    between: Annotated[
        tuple[int, int], typer.Option(metavar="I J", help="Indices of two test examples.")
    ] = (0, 1),
    space: Annotated[
        Space, typer.Option(help="Where the line is straight: z0 (generation) or z.")
    ] = Space.z0,
    steps: Annotated[int, typer.Option(min=2, help="Points of the line and of each sweep.")] = 11,
    dimensions: Annotated[
        int, typer.Option(min=1, help="Sweep this many dimensions, largest deviation first.")
    ] = 5,
    reach: Annotated[
        float, typer.Option("--range", min=0.0, help="Sweep this many standard deviations a side.")
    ] = 5.0,
    out: Out = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Walk between two test examples and along single dimensions.

    The line is straight in z0 (a curve in z) or in z; the sweep moves the first example along the
    dimensions of z that vary most under q(z). At latent_dim 2 the path is drawn on log q(z).
    """
    from dpvae_cli.foundation.files import write_npz
    from dpvae_cli.plotting import style, traversal
    from dpvae_cli.sampling.traversal import traverse as walk

    found = opened(
        checkpoint, best=best, device=device, data_root=data_root, no_download=no_download
    )
    start, end = (_code(found, index) for index in between)
    record = walk(
        found.model,
        found.encoded.aggregate_posterior(),
        start,
        end,
        space=space.value,
        steps=steps,
        dimensions=dimensions,
        reach=reach,
    )
    picture, arrays = outputs(out, default=found.folder.path / "traversals", stem=space.value)
    write_npz(arrays, record)
    paths = style.save(traversal.figure(record, found.label), picture)
    console.note(f"Lowest log q(z) on the line: {record['path_log_q'].min():.3g} nats.")
    console.result("\n".join(map(str, [*paths, arrays])))


def _code(found: "Opened", index: int) -> "Codes":
    """Return the posterior mean of one test example, `(1, latent)`."""
    import torch

    from dpvae_cli.foundation.errors import UsageError

    test = found.load_dataset().test
    if not 0 <= index < len(test):
        raise UsageError(f"--between: {index} is not among the {len(test)} test examples (from 0)")
    with torch.no_grad():
        return found.model.encode(
            test.examples(slice(index, index + 1)).to(found.model.device, found.model.dtype)
        ).mean
