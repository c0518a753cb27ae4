"""`dpvae encode`: what the encoder makes of a split, as arrays for other tools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.opening import opened
from dpvae_cli.cli.options import (
    Best,
    CheckpointPath,
    DataRoot,
    Device,
    NoDownload,
    SplitChoice,
    SplitName,
    examples,
)

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.data import Split
    from dpvae_cli.model import VAE

EXAMPLES = examples(
    "dpvae encode",
    "dpvae encode runs/factor_mnist-decoupled-seed0 --split train --out codes.npz",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EXAMPLES)(encode)


@handle_errors
def encode(
    checkpoint: CheckpointPath = None,
    split: SplitChoice = SplitName.test,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The .npz; without a suffix a folder (default: codes in the run folder).",
            show_default=False,
        ),
    ] = None,
    best: Best = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
) -> None:
    """Write the codes of a split as .npz.

    Codes are mean and log-variance of q(z|x), with labels and factors where the data has them.

    Writes an .npz with mean, log_variance and, where the data has them, label and factors; rows are
    in the order of the split.
    """
    from dpvae_cli.foundation.files import write_npz

    named = _target(out, split)
    found = opened(
        checkpoint, best=best, device=device, data_root=data_root, no_download=no_download
    )
    path = named or found.folder.path / "codes" / f"{split.value}.npz"
    write_npz(path, _codes(found.model, found.load_dataset().split(split.value)))
    console.result(str(path))


def _target(out: Path | None, split: SplitName) -> Path | None:
    """Return the file that --out names."""
    from dpvae_cli.foundation.errors import UsageError

    if out is None or out.suffix == ".npz":
        return out
    if out.suffix and not out.is_dir():
        raise UsageError(
            f"--out {out}: codes are written as .npz, not {out.suffix}",
            hint="Leave the suffix out to name a folder.",
        )
    return out / f"{split.value}.npz"


def _codes(model: "VAE", split: "Split") -> "dict[str, np.ndarray]":
    from dpvae_cli.sampling import encodings

    posterior = encodings.encode(model, split)
    tensors = {"mean": posterior.mean, "log_variance": posterior.log_variance}
    if split.labels is not None:
        tensors["label"] = split.labels
    if split.factors is not None:
        tensors["factors"] = split.factors
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
