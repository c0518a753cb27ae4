"""Resume a run: the recipe stays the same, only the number of iterations may grow."""

from dataclasses import dataclass
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.dump import to_dict
from dpvae_cli.recipe.loading import from_dict
from dpvae_cli.recipe.schema import derived_fields
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.run_folder import RunFolder


@final
@dataclass(frozen=True)
class ResumePoint:
    """The recipe and the state to resume from; without a checkpoint the run starts anew."""

    recipe: Recipe
    checkpoint: Checkpoint | None


def load_resume_point(
    folder: RunFolder, recipe: Recipe, *, model: VAE | None = None, from_previous: bool = False
) -> ResumePoint:
    """Return the state to resume from; a corrupt checkpoint is an error.

    Args:
        folder: of the run.
        recipe: the one asked for.
        model: the model of own networks, if it is such a run.
        from_previous: take the checkpoint before the last one.

    Raises:
        UsageError: there is nothing to resume, or the recipe differs from that of the run.
        CheckpointError: the checkpoint cannot be read, or does not fit the model given.
    """
    path = folder.previous if from_previous else folder.checkpoint
    has_checkpoint = folder.checkpoint.is_file() or folder.previous.is_file()
    if not (folder.recipe.is_file() if has_checkpoint else folder.is_run()):
        raise UsageError(
            f"--resume: {folder.path} holds no run", hint="Leave out --resume to start it."
        )
    if not (has_checkpoint or from_previous):
        saved = load_recipe(folder.recipe).named(recipe.name)
        own_networks.check_resume(saved, folder.path, has_model=model is not None)
        return ResumePoint(_with_more_iterations(saved, recipe, done=0), None)
    checkpoint = checkpoints.read_checkpoint(path)
    own_networks.check_resume(checkpoint.recipe, folder.path, has_model=model is not None)
    if model is not None:
        own_networks.check_networks(path, checkpoint, encoder=model.encoder, decoder=model.decoder)
    return ResumePoint(
        _with_more_iterations(checkpoint.recipe, recipe, done=checkpoint.iteration), checkpoint
    )


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
    return from_dict(saved_dict).named(saved.name)


def _differences(saved: Any, asked: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Return (path, saved, asked) of every leaf that differs."""
    if not (isinstance(saved, dict) and isinstance(asked, dict)):
        return [] if saved == asked else [(path, saved, asked)]
    return [
        leaf
        for key in saved | asked
        for leaf in _differences(saved.get(key), asked.get(key), f"{path}.{key}" if path else key)
    ]
