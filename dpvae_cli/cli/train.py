"""`dpvae train`: train a recipe, resume a run, or show what would be trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.completion import complete_recipe
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import DataRoot, Device, NoDownload, Quiet, examples
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.example_shape import is_image

if TYPE_CHECKING:
    from dpvae_cli.recipe import Recipe

EXAMPLES = examples(
    "dpvae train beta_h_moons",
    "dpvae train beta_h_moons prior=standard_normal seed=1",
    "dpvae train recipes/factor_mnist.yaml training.iterations=2000",
    "dpvae train mine.yaml --dry-run",
    "dpvae train --resume --run-dir runs/factor_mnist-decoupled-seed0",
)


@handle_errors
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name or file of a recipe (default with --resume: that of the run).",
            autocompletion=complete_recipe,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="e.g. training.iterations=2000 seed=1"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Run folder (default: runs/<recipe>-<prior>-seed<k>)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder.")
    ] = False,
    from_previous: Annotated[
        bool,
        typer.Option(
            "--from-previous", help="Resume from checkpoint.previous.pt; drop checkpoint.pt."
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the run in the folder once this one has a checkpoint."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained, without training.")
    ] = False,
    device: Device = "auto",
    data_root: DataRoot = None,
    no_download: NoDownload = False,
    quiet: Quiet = False,
) -> None:
    """Train a VAE from a recipe.

    Writes a run folder with recipe.yaml, the last two checkpoints, best.pt, metrics.jsonl,
    environment.json and a sample picture. KEY=VALUE overrides the recipe; a bare word replaces a
    whole section.
    """
    from dpvae_cli.cli.fit_prior import describe_loss
    from dpvae_cli.cli.progress import LatestLink, TrainingProgress
    from dpvae_cli.fitting.prior_file import FitRecord
    from dpvae_cli.recipe.loading import to_yaml
    from dpvae_cli.runs.run_folder import RunFolder, default_run_dir, resolve_run_dir
    from dpvae_cli.runs.start import TrainMode
    from dpvae_cli.training.dry_run import describe
    from dpvae_cli.training.train import train as train_recipe

    run_dir = None if run_dir is None else resolve_run_dir(run_dir)
    resolved, run_dir = _resolve_recipe(
        recipe, overrides or [], run_dir=run_dir, resume=resume, from_previous=from_previous
    )
    folder = run_dir or default_run_dir(resolved)
    if dry_run:
        state = "exists: add --resume or --overwrite" if folder.exists() else "new"
        facts = {"run folder": f"{folder} ({state})"}
        facts |= describe(resolved, device=device, data_root=data_root)
        if is_image(resolved.data.example_shape(data_root)):
            from dpvae_cli.cli.checks import inception_weights

            what, path, there = inception_weights()
            facts[f"{what}, for fid and kid"] = f"{path}, {there}"
        console.result(to_yaml(resolved))
        console.table(None, ["what", "value"], list(map(list, facts.items())))
        return
    if from_previous and not resume:
        raise UsageError("--from-previous is for --resume", hint="Add --resume.")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    mode: TrainMode = "overwrite" if overwrite else "resume" if resume else "new"
    mode = "resume_previous" if from_previous else mode
    train_recipe(
        resolved,
        folder,
        mode=mode,
        dataset=lambda: resolved.data.load(data_root, download=not no_download),
        device=device,
        callback=(LatestLink if quiet else TrainingProgress)(overwrite=overwrite),
    )
    if resolved.fit_prior is not None:
        saved = json.loads(RunFolder(folder).fit.read_text(encoding="utf-8"))
        record = FitRecord.from_dict(saved)
        if record.is_clear_loss:
            console.note(f"Warning: {describe_loss(record)}. The run uses it nevertheless.")
    console.result(str(folder))


def _resolve_recipe(
    recipe: str | None,
    overrides: list[str],
    *,
    run_dir: Path | None,
    resume: bool,
    from_previous: bool,
) -> tuple["Recipe", Path | None]:
    """Return the recipe to train and the run folder, where the options name one."""
    from dpvae_cli.recipe import load_recipe
    from dpvae_cli.runs import checkpoint
    from dpvae_cli.runs.own_networks import check_resume
    from dpvae_cli.runs.run_folder import RunFolder, latest_run_dir

    if recipe is not None and "=" in recipe:
        overrides, recipe = [recipe, *overrides], None
    if recipe is not None:
        return load_recipe(recipe, overrides), run_dir
    if not resume:
        raise UsageError(
            "which recipe?",
            hint="dpvae recipes ls lists them; dpvae train beta_h_moons trains one.",
        )
    folder = latest_run_dir() if run_dir is None else run_dir
    if run_dir is None:
        console.note(f"Resuming {folder} (runs/latest).")
    run = RunFolder(folder)
    if not run.recipe.is_file():
        raise UsageError(
            f"--resume: {folder} holds no run", hint="Name a run folder with --run-dir."
        )
    saved = load_recipe(run.recipe, overrides)  # defaults resolved before stay as they are
    check_resume(saved, folder, has_model=False)
    path = run.previous if from_previous else run.checkpoint
    name = checkpoint.read_checkpoint(path).recipe.name if path.is_file() else "recipe"
    return saved.with_name(name), folder
