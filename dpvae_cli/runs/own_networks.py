"""Runs whose encoder and decoder are modules of the caller.

The recipe of such a run has `architecture: own` and the likelihood and prior of the model. A
checkpoint holds the weights but not the modules: whoever loads it passes modules of the same shape.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.devices import Precision, num_parameters
from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.randomness import derive_seed
from dpvae_cli.model import PROBE_BATCH_SIZE, VAE
from dpvae_cli.recipe import Recipe, from_dict, to_dict
from dpvae_cli.runs.checkpoint import Checkpoint

FACT = "own_model"
MAX_LISTED = 4


def recipe_for_model(recipe: Recipe, model: VAE) -> Recipe:
    """Return the recipe with the latent dimension, likelihood and prior of a model.

    Raises:
        UsageError: the likelihood or the prior has no spec, or the recipe is of a model of another
            size.
    """
    architecture = recipe.architecture
    has_size = architecture.kind == "own" and "latent_dim" in architecture.model_fields_set
    if has_size and architecture.latent_dim != model.latent_dim:
        raise UsageError(
            f"architecture.latent_dim is {architecture.latent_dim} in the recipe, "
            f"the model has {model.latent_dim}"
        )
    values = to_dict(recipe)
    values["architecture"] = {"kind": "own", "latent_dim": model.latent_dim}
    for section, part in (("likelihood", model.likelihood), ("prior", model.prior)):
        if part.spec is None:
            kind = values[section]["kind"]
            raise UsageError(
                f"{section}: the {type(part).__name__} of this model has no spec, so its "
                "checkpoint could not be loaded again",
                hint=f"Give dpvae.VAE a spec or its name, such as {section}={kind!r}.",
            )
        values[section] = part.spec.model_dump(mode="json", by_alias=True)
    return from_dict(values, name=recipe.name)


def prepare(model: VAE, dataset: Dataset, precision: Precision) -> None:
    """Move the model to its device, set training mode, and check it on examples of the data.

    Raises:
        UsageError: it does not fit the data, or cannot be saved in a checkpoint.
    """
    precision.place(model).train()
    x = dataset.train.examples(slice(0, PROBE_BATCH_SIZE)).to(model.device)
    model.check(precision.batch(x))
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UsageError(f"{name} is a {type(value).__name__}, checkpoints hold only tensors")


def seed_each_call(objective: nn.Module, seed: int, *, rank: int = 0) -> None:
    """Seed the global generators by seed and iteration, the last argument of each call.

    They are what the caller's networks draw from, in dropout for example. Ranks draw different
    numbers, for they have different examples.
    """

    def seed_generators(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        iteration = arguments[-1]
        place = (iteration, rank) if rank else (iteration,)
        torch.manual_seed(derive_seed(seed, "own networks", *place))

    objective.register_forward_pre_hook(seed_generators)


def network_facts(model: VAE) -> dict[str, Any]:
    """Return what a checkpoint says of own networks: their classes and sizes."""
    networks = {"encoder": model.encoder, "decoder": model.decoder}
    return {
        FACT: {
            name: {
                "class": f"{type(network).__module__}.{type(network).__qualname__}",
                "parameters": num_parameters(network),
            }
            for name, network in networks.items()
        }
    }


def resolve_networks(
    path: Path, checkpoint: Checkpoint, encoder: nn.Module | None, decoder: nn.Module | None
) -> tuple[nn.Module, nn.Module] | None:
    """Return the networks to load a checkpoint into; None where its recipe builds them.

    Raises:
        CheckpointError: they are missing, do not fit, or the recipe builds them.
    """
    if checkpoint.recipe.architecture.kind != "own":
        if encoder is not None or decoder is not None:
            raise CheckpointError(
                f"{path}: its recipe builds the networks "
                f"(architecture {checkpoint.recipe.architecture.kind}), none can be given",
                hint=f"Leave out encoder and decoder: dpvae.load({str(path)!r}).",
            )
        return None
    if encoder is None or decoder is None:
        raise CheckpointError(
            f"{path} holds only the weights of the caller's own encoder "
            f"({_describe_saved(checkpoint, 'encoder')}) and decoder "
            f"({_describe_saved(checkpoint, 'decoder')}); "
            f"open it in Python: {_load_call(path)}"
        )
    check_networks(path, checkpoint, encoder=encoder, decoder=decoder)
    return encoder, decoder


def _describe_saved(checkpoint: Checkpoint, name: str) -> str:
    """Return class and size of a network in the checkpoint."""
    try:
        saved = checkpoint.facts[FACT][name]
        return f"{saved['class'].rpartition('.')[2]}, {int(saved['parameters']):,} parameters"
    except (KeyError, TypeError, ValueError, AttributeError):
        return "which the file does not describe"


def _load_call(path: Path) -> str:
    return f"dpvae.load({str(path)!r}, encoder=..., decoder=...)"


def check_networks(path: Path, checkpoint: Checkpoint, **networks: nn.Module) -> None:
    """Check that the weights of networks have the names and shapes of the checkpoint's.

    Raises:
        CheckpointError: lists the differences.
    """
    for name, network in networks.items():
        given, saved = network.state_dict(), checkpoint.part(f"model.{name}")
        differences = [
            *sorted(f"it has no {key}" for key in saved.keys() - given.keys()),
            *sorted(f"{key} is not in the checkpoint" for key in given.keys() - saved.keys()),
            *sorted(
                f"{key} is {tuple(given[key].shape)}, {tuple(saved[key].shape)} in the checkpoint"
                for key in given.keys() & saved.keys()
                if not is_lazy(given[key]) and given[key].shape != saved[key].shape
            ),
        ]
        if differences:
            more = len(differences) - MAX_LISTED
            listed = differences[:MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])
            raise CheckpointError(
                f"{path}: the {name} given ({type(network).__name__}) has other weights than the "
                f"one trained ({_describe_saved(checkpoint, name)}): {'; '.join(listed)}",
                hint="Make it with the arguments it was trained with.",
            )


def check_resume(saved: Recipe, run_dir: Path, *, has_model: bool) -> None:
    """Check that a model is given on the resume of a run of own networks, and of no other run.

    Raises:
        CheckpointError: names the call that resumes.
    """
    if saved.architecture.kind == "own" and not has_model:
        raise CheckpointError(
            f"{run_dir}: encoder and decoder of this run are the caller's own; in Python: "
            f"{resume_call(run_dir)} goes on, {_load_call(run_dir)} opens it"
        )
    if has_model and saved.architecture.kind != "own":
        raise CheckpointError(
            f"{run_dir}: the run's recipe builds its networks (architecture "
            f"{saved.architecture.kind}), so no model can be given to go on with it",
            hint="Leave out model, or name another folder.",
        )


def resume_call(run_dir: Path) -> str:
    """Return the Python call that resumes a run of own networks."""
    return f"dpvae.train(recipe, {str(run_dir)!r}, model=..., mode='resume')"
