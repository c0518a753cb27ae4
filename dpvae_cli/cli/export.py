"""`dpvae export`: files of a trained model that run without dpvae."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import CheckpointPath, examples
from dpvae_cli.cli.run_io import RunOptions, with_run_options

EXAMPLES = examples(
    "dpvae export --to decoder.onnx",
    "dpvae export runs/factor_mnist-decoupled-seed0 --to exported",
    "dpvae export --to density.pt2 --what model",
    "dpvae export --to weights.safetensors",
)


@handle_errors
@with_run_options
def export(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="An .onnx, .pt2 or .safetensors, or a folder for one .onnx a part (default: "
            "export in the run folder)."
        ),
    ] = None,
    what: Annotated[
        Literal["decoder", "sampler", "model", "encoder"] | None,
        typer.Option(
            help="The part (default: what the file is called; in a folder each that can be)."
        ),
    ] = None,
) -> None:
    """Write the model as ONNX, torch.export or safetensors.

    decoder: z -> x. sampler: z0 -> z, x. model: z -> z0, log p(z), x. encoder: x -> mean and
    log-variance of q(z|x). Each file takes a batch of any size and is compared with the model.
    """
    from dpvae_cli.exporter.export import export_model
    from dpvae_cli.exporter.formats import ROWS

    run = options.load(checkpoint)
    exported = export_model(
        run.model,
        to or run.folder.path / "export",
        what=what,
        recipe=run.recipe,
    )
    for note in exported.notes:
        console.note(note)
    for each in exported.files:
        over = "" if each.path.suffix == ".safetensors" else f" over {ROWS} inputs"
        console.note(
            f"{each.path.name}: the largest difference from the model is "
            f"{each.difference:.1e}{over}."
        )
    console.result("\n".join(str(each.path) for each in exported.files))
