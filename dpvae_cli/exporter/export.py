"""Export a run: the whole of `dpvae export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.exporter.formats import (
    ExportedFile,
    check_suffix,
    write_graph,
    write_weights,
)
from dpvae_cli.exporter.graphs import GRAPHS
from dpvae_cli.exporter.onnx_format import ExportError
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe, to_yaml
from dpvae_cli.runs.loaded_run import load_run


@final
@dataclass(frozen=True)
class Exported:
    """What was written, and why other parts were not.

    Args:
        files: each that was written.
        notes: one sentence for each part that was left out.
    """

    files: tuple[ExportedFile, ...]
    notes: tuple[str, ...] = ()


def export(run: VAE | Path | str, to: Path | str, *, what: str | None = None) -> Path:
    """Export a trained model to files that run without dpvae, and return their path.

    A graph is in the units of the training data, takes any batch size, and is compared with the
    model on 100 inputs before it is written: `decoder` z -> x, `sampler` z0 -> z and x, `model`
    z -> z0, log p(z) and x, `encoder` x -> mean and log-variance of q(z|x), where x that is
    decoded is E[x|z].

    Args:
        run: a checkpoint, a run folder, or a model, whose encoder and decoder may be the caller's.
        to: an .onnx, .pt2 (torch.export) or .safetensors (weights and the recipe), or a folder
            for one .onnx a graph.
        what: the graph; by default what the file is called, in a folder each that can be exported,
            in a .safetensors all weights.

    Raises:
        ExportError: torch cannot export the model, or the extra is missing; says why.
        UsageError: `what` is unknown or missing, the prior has no z0, or `to` cannot be written.

    Example:
        >>> import dpvae_cli as dpvae
        >>> model = dpvae.build(dpvae.load_recipe("vae_moons"), example_shape=(2,))
        >>> dpvae.export(model, "decoder.pt2").name
        'decoder.pt2'
    """
    if isinstance(run, VAE):
        export_model(run, Path(to), what=what)
    else:
        loaded = load_run(Path(run), device="cpu")
        export_model(loaded.model, Path(to), what=what, recipe=loaded.recipe)
    return Path(to)


def export_model(
    model: VAE, to: Path, *, what: str | None, recipe: Recipe | None = None
) -> Exported:
    """Export a model; arguments and errors as of `export`.

    Args:
        model: the trained model.
        to: a file or a folder.
        what: the graph.
        recipe: goes into the metadata of a .safetensors.
    """
    if what is not None and what not in GRAPHS:
        raise UsageError(f"--what {what}: not among {', '.join(GRAPHS)}")
    if not to.suffix or to.is_dir():
        return _export_folder(model, to, [what] if what else list(GRAPHS))
    check_suffix(to)
    if to.suffix == ".safetensors":
        facts = {} if recipe is None else {"recipe": to_yaml(recipe)}
        return Exported((write_weights(model, to, what=what, facts=facts),))
    what = what or to.stem
    if what not in GRAPHS:
        raise UsageError(
            f"--to {to}: its name does not say which part of the model to export",
            hint=f"Add --what {', '.join(list(GRAPHS)[:-1])} or {list(GRAPHS)[-1]}.",
        )
    return Exported((write_graph(model, to, what=what),))


def _export_folder(model: VAE, folder: Path, wanted: list[str]) -> Exported:
    """Write an .onnx for each graph that can be exported.

    Raises:
        ExportError: none can.
    """
    files, notes, errors = [], [], []
    for what in wanted:
        try:
            files.append(write_graph(model, folder / f"{what}.onnx", what=what))
        except UsageError as error:
            errors.append(error)
            notes.append(f"There is no {what}.onnx: {error}.")
    if errors and not files:
        raise ExportError(str(errors[0]), hint=errors[0].hint) from errors[0]
    return Exported(tuple(files), tuple(notes))
