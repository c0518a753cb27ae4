"""`dpvae encode`: the codes of a split as arrays for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import CheckpointPath, SplitOption, examples
from dpvae_cli.cli.run_io import RunOptions, output_path, with_run_options

EXAMPLES = examples(
    "dpvae encode",
    "dpvae encode runs/factor_mnist-decoupled-seed0 --split train --out codes.npz",
)


@handle_errors
@with_run_options
def encode(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    split: SplitOption = "test",
    out: Annotated[
        Path | None, typer.Option(help="The .npz, or a folder (default: codes in the run folder).")
    ] = None,
) -> None:
    """Write the codes of a split as .npz.

    The .npz has mean and log_variance of q(z|x) and, where the data has them, label and factors;
    rows are in the order of the split.
    """
    from dpvae_cli.foundation.array_files import write_npz
    from dpvae_cli.sampling.samples import encode

    run = options.load(checkpoint)
    default = run.folder.path / "codes" / f"{split}.npz"
    path = output_path(out, default, suffixes=(".npz",), what="codes")
    data = run.load_dataset().split(split)
    posterior = encode(run.model, data)
    tensors = {"mean": posterior.mean, "log_variance": posterior.log_variance}
    if data.labels is not None:
        tensors["label"] = data.labels
    if data.factors is not None:
        tensors["factors"] = data.factors
    write_npz(path, {name: tensor.cpu().numpy() for name, tensor in tensors.items()})
    console.result(str(path))
