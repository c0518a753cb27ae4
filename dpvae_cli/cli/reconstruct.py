"""`dpvae reconstruct`: examples and their reconstructions."""

from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import (
    MAX_COUNT,
    CheckpointPath,
    Out,
    SplitOption,
    examples,
)
from dpvae_cli.cli.run_io import (
    RunOptions,
    column_names,
    note_units,
    picture_and_arrays,
    with_run_options,
)

EXAMPLES = examples(
    "dpvae reconstruct",
    "dpvae reconstruct runs/factor_mnist-decoupled-seed0 -n 64 --split train --out seen.png",
)


@handle_errors
@with_run_options
def reconstruct(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    n: Annotated[
        int,
        typer.Option(
            "-n", min=1, max=MAX_COUNT, help="Number of examples, from the start of the split."
        ),
    ] = 16,
    split: SplitOption = "test",
    out: Out = None,
) -> None:
    """Show examples above their reconstructions.

    A reconstruction is E[x|z] at the mean z of q(z|x). Writes the picture and an .npz with x, z and
    decoded; x and decoded are in the data's units.
    """
    from dpvae_cli.foundation.array_files import write_npz
    from dpvae_cli.plotting.samples import save_reconstructions
    from dpvae_cli.sampling.samples import drawable, reconstruction_arrays

    run = options.load(checkpoint)
    note_units(run)
    default = run.folder.path / "reconstructions" / f"{split}.png"
    picture, arrays = picture_and_arrays(out, default)
    record = reconstruction_arrays(run.model, run.load_dataset().split(split), n)
    if (count := len(record["x"])) < n:
        console.note(f"The {split} split has {count} examples; all of them are shown.")
    write_npz(arrays, record | column_names(run))
    title = f"{run.label}: {split} examples above their reconstructions"
    x, decoded = (drawable(run.model, record[name]) for name in ("x", "decoded"))
    columns = run.model.units.columns
    save_reconstructions(picture, x, decoded=decoded, title=title, columns=columns)
    console.result(f"{picture}\n{arrays}")
