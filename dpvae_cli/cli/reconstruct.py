"""`dpvae reconstruct`: examples and what is left of them after encoding and decoding."""

from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.opening import column_names, note_units, opened, outputs
from dpvae_cli.cli.options import (
    MOST,
    Best,
    CheckpointPath,
    DataRoot,
    Device,
    NoDownload,
    Out,
    SplitChoice,
    SplitName,
    examples,
)

EXAMPLES = examples(
    "dpvae reconstruct",
    "dpvae reconstruct runs/factor_mnist-decoupled-seed0 -n 64 --split train --out seen.png",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(reconstruct)


@handle_errors
def reconstruct(
    checkpoint: CheckpointPath = None,
    n: Annotated[
        int,
        typer.Option(
            "-n", min=1, max=MOST, help="How many, from the split's start, or all there are."
        ),
    ] = 16,
    split: SplitChoice = SplitName.test,
    out: Out = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Show examples above their reconstructions.

    A reconstruction is E[x|z] at the mean z of q(z|x).

    Writes the picture and an .npz with x, z and decoded; x and decoded are in the data's units.
    """
    from dpvae_cli.foundation.files import write_npz
    from dpvae_cli.plotting import reconstructions
    from dpvae_cli.sampling.encodings import drawable
    from dpvae_cli.sampling.reconstructions import reconstruction_arrays

    found = opened(
        checkpoint, best=best, device=device, data_root=data_root, no_download=no_download
    )
    note_units(found)
    default = found.folder.path / "reconstructions"
    picture, arrays = outputs(out, default=default, stem=split.value)
    record = reconstruction_arrays(found.model, found.load_dataset().split(split.value), n)
    if (count := len(record["x"])) < n:
        console.note(f"The {split.value} split has {count} examples: here are all of them.")
    write_npz(arrays, record | column_names(found))
    title = f"{found.label}: {split.value} examples above their reconstructions"
    x, decoded = (drawable(found.model, record[name]) for name in ("x", "decoded"))
    columns = found.model.units.columns
    reconstructions.save(picture, x, decoded=decoded, title=title, columns=columns)
    console.result(f"{picture}\n{arrays}")
