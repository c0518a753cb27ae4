"""Resume a run: the recipe stays the same, only the number of iterations may grow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final, get_args

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.dump import to_dict
from dpvae_cli.recipe.loading import from_dict
from dpvae_cli.recipe.schema import derived_fields
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.run_data import check_unchanged
from dpvae_cli.runs.run_folder import RunFolder

TrainMode = Literal["new", "resume", "resume_previous", "overwrite"]


def check_mode(mode: str) -> None:
    """Check that `mode` is a way to begin a run.

    Raises:
        UsageError: lists the ways there are.
    """
    if mode not in (modes := get_args(TrainMode)):
        raise UsageError(f"mode is {mode!r}", hint=f"Use one of {', '.join(modes)}.")


@final
@dataclass(frozen=True)
class ResumePoint:
    """The recipe and the state to resume from; without a checkpoint the run starts anew.

    `path` is the file of the checkpoint.
    """

    recipe: Recipe
    checkpoint: Checkpoint | None = None
    path: Path = Path()

    def check_data(self, dataset: Dataset) -> None:
        """Check that the data is what the run was trained on.

        Raises:
            UsageError: it is not; says how it differs.
        """
        if self.checkpoint is not None:
            check_unchanged(self.checkpoint, dataset)

    def restore(self, load: Callable[[Checkpoint], None]) -> None:
        """Call `load` with the checkpoint, if there is one.

        Raises:
            CheckpointError: it does not fit; names a good checkpoint in the same folder.
        """
        if self.checkpoint is not None:
            with checkpoints.suggest_fallback(self.path):
                load(self.checkpoint)


def load_resume_point(
    folder: RunFolder, recipe: Recipe, *, mode: TrainMode, model: VAE | None = None
) -> ResumePoint:
    """Return what to start from; a corrupt checkpoint is an error.

    Args:
        folder: of the run.
        recipe: the one asked for.
        mode: how the run begins.
        model: the model of own networks, if it is such a run.

    Raises:
        UsageError: there is nothing to resume, or the recipe differs from that of the run.
        CheckpointError: the checkpoint cannot be read, or does not fit the model given.
    """
    if mode not in ("resume", "resume_previous"):
        return ResumePoint(recipe)
    from_previous = mode == "resume_previous"
    path = folder.previous if from_previous else folder.checkpoint
    has_checkpoint = folder.checkpoint.is_file() or folder.previous.is_file()
    if not (folder.recipe.is_file() if has_checkpoint else folder.is_run()):
        raise UsageError(
            f"--resume: {folder.path} holds no run", hint="Leave out --resume to start it."
        )
    if not (has_checkpoint or from_previous):
        saved = load_recipe(folder.recipe).with_name(recipe.name)
        own_networks.check_resume(saved, folder.path, has_model=model is not None)
        return ResumePoint(_with_more_iterations(saved, recipe, done=0))
    checkpoint = checkpoints.read_checkpoint(path)
    own_networks.check_resume(checkpoint.recipe, folder.path, has_model=model is not None)
    if model is not None:
        own_networks.check_networks(path, checkpoint, encoder=model.encoder, decoder=model.decoder)
    recipe = _with_more_iterations(checkpoint.recipe, recipe, done=checkpoint.iteration)
    return ResumePoint(recipe, checkpoint, path)


def _with_more_iterations(saved: Recipe, asked: Recipe, *, done: int) -> Recipe:
    """Return the saved recipe with the iterations asked for; any other difference is an error.

    Fields derived from the iterations (the stop_step of beta_b) keep their saved values.
    """
    iterations = asked.training.iterations
    if iterations < done:
        raise UsageError(
            f"--resume: training.iterations={iterations}, but {done} are done already",
            hint="It may only grow.",
        )
    saved_dict, asked_dict = to_dict(saved), to_dict(asked)
    asked_dict["training"]["iterations"] = saved_dict["training"]["iterations"]
    differing = [
        f"{path} is {saved_value!r} in the run, {asked_value!r} was asked"
        for path, saved_value, asked_value in _differences(saved_dict, asked_dict)
        if not (path in derived_fields() and asked_value == iterations)
    ]
    if differing:
        raise UsageError(
            "--resume: only training.iterations may change; " + "; ".join(differing),
            hint="Use another --run-dir for another recipe.",
        )
    saved_dict["training"]["iterations"] = iterations
    return from_dict(saved_dict).with_name(saved.name)


def _differences(saved: Any, asked: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Return (path, saved, asked) of every leaf that differs."""
    if not (isinstance(saved, dict) and isinstance(asked, dict)):
        return [] if saved == asked else [(path, saved, asked)]
    return [
        leaf
        for key in saved | asked
        for leaf in _differences(saved.get(key), asked.get(key), f"{path}.{key}" if path else key)
    ]
