"""What a run starts from, and whether recipe, data, batch size and processes fit each other.

A resumed run keeps its recipe; only the number of iterations may grow.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from dpvae_cli.data import Dataset
from dpvae_cli.data.dataset import SPLITS
from dpvae_cli.foundation.devices import FLOAT32, SMALLER_HINT
from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import check_fits_in_memory
from dpvae_cli.foundation.serialization import MALFORMED_ERRORS
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.recipe.loading import from_dict, to_dict, to_yaml
from dpvae_cli.recipe.schema import MIN_BATCH_SIZE, derived_fields
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import own_networks
from dpvae_cli.runs.checkpoint import Checkpoint
from dpvae_cli.runs.run_folder import RunFolder

TrainMode = Literal["new", "resume", "resume_previous", "overwrite"]

FACT, OLD_FACT = "data_splits", "data_fingerprint"
RESTORE_HINT = "Put back the data it was trained on, or train another run on this data."

CHECKED_EXAMPLES, CHUNK_SIZE = 10_000, 500
"""Training examples that must fit the likelihood, and how many of them are in memory at a time."""


def check_mode(mode: str) -> None:
    """Check that `mode` is a way to begin a run.

    Raises:
        UsageError: lists the ways there are.
    """
    if mode not in (modes := get_args(TrainMode)):
        raise UsageError(f"mode is {mode!r}", hint=f"Use one of {', '.join(modes)}.")


def load_start(
    folder: RunFolder, recipe: Recipe, *, mode: TrainMode, model: VAE | None = None
) -> tuple[Recipe, Checkpoint | None, Path]:
    """Return the recipe, the checkpoint to go on from, if any, and where it is.

    Raises:
        UsageError: there is nothing to resume, or the recipe differs from that of the run.
        CheckpointError: the checkpoint cannot be read, or does not fit the model given.
    """
    from_previous = mode == "resume_previous"
    path = folder.previous if from_previous else folder.checkpoint
    if not mode.startswith("resume"):
        return recipe, None, path
    has_checkpoint = folder.checkpoint.is_file() or folder.previous.is_file()
    if not (folder.recipe.is_file() if has_checkpoint else folder.is_run()):
        raise UsageError(
            f"--resume: {folder.path} holds no run", hint="Leave out --resume to start it."
        )
    if not (has_checkpoint or from_previous):
        saved = load_recipe(folder.recipe).with_name(recipe.name)
        own_networks.check_resume(saved, folder.path, has_model=model is not None)
        return _with_more_iterations(saved, recipe, done=0), None, path
    checkpoint = checkpoints.read_checkpoint(path)
    own_networks.check_resume(checkpoint.recipe, folder.path, has_model=model is not None)
    if model is not None:
        own_networks.check_networks(path, checkpoint, encoder=model.encoder, decoder=model.decoder)
    recipe = _with_more_iterations(checkpoint.recipe, recipe, done=checkpoint.iteration)
    return recipe, checkpoint, path


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


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint stores about its data: name, units, sizes and digests."""
    units = dataset.units
    return {
        "data": dataset.name,
        "data_note": dataset.note,
        "data_range": None if units.value_range is None else list(units.value_range),
        "data_columns": list(units.columns),
        FACT: _split_facts(dataset),
    }


def _split_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        name: {"examples": len(dataset.split(name)), "digest": dataset.digest(name)}
        for name in SPLITS
    }


def describe_difference(checkpoint: Checkpoint, dataset: Dataset) -> str | None:
    """Return how data differs from what a run was trained on, or None.

    Old checkpoints have a digest of the training split only.
    """
    found = _split_facts(dataset)
    try:
        saved = {name: checkpoint.facts[FACT][name] for name in SPLITS}
        resized = [
            f"{name} has {found[name]['examples']} examples, {saved[name]['examples']} then"
            for name in SPLITS
            if found[name]["examples"] != saved[name]["examples"]
        ]
        changed = [name for name in SPLITS if found[name]["digest"] != saved[name]["digest"]]
    except MALFORMED_ERRORS:
        fingerprint = checkpoint.facts.get(OLD_FACT)
        is_same = fingerprint is None or fingerprint == dataset.fingerprint()
        return None if is_same else "the training split has other values"
    return ", ".join(resized) or (changed and f"other values in {', '.join(changed)}") or None


def check_dataset_shape(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that examples have the shape of those of the run.

    Raises:
        UsageError: they do not.
    """
    if dataset.example_shape != checkpoint.example_shape:
        raise UsageError(
            f"data {dataset.name} has examples of shape {dataset.example_shape}, the run was "
            f"trained on examples of shape {checkpoint.example_shape}",
            hint=RESTORE_HINT,
        )


def check_unchanged(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Check that the data is what the run was trained on.

    Raises:
        UsageError: it is not; says how it differs.
    """
    check_dataset_shape(checkpoint, dataset)
    if difference := describe_difference(checkpoint, dataset):
        raise UsageError(
            f"--resume: data {dataset.name} is not what the run was trained on: {difference}",
            hint=RESTORE_HINT,
        )


def check_data(recipe: Recipe, dataset: Dataset, *, processes: int = 1) -> None:
    """Check that likelihood and batch size fit the data, and that processes can share a batch.

    Raises:
        UsageError: says which does not and what to change.
    """
    batch_size, examples = recipe.training.batch_size, len(dataset.train)
    for start in range(0, min(CHECKED_EXAMPLES, examples), CHUNK_SIZE):
        chunk = dataset.train.examples(slice(start, min(start + CHUNK_SIZE, CHECKED_EXAMPLES)))
        if (complaint := recipe.likelihood.validation_error(chunk)) is not None:
            raise UsageError(f"likelihood: {complaint}")
    if batch_size <= examples:
        return
    largest = examples // processes * processes
    if largest < MIN_BATCH_SIZE:
        needed = max(MIN_BATCH_SIZE, processes)
        hint = f"Train on {needed} examples or more: that many make the smallest batch."
    else:
        hint = f"Add training.batch_size={largest} or less."
    raise UsageError(
        f"training.batch_size {batch_size} is more than the {examples} training examples", hint=hint
    )


def check_divisible(batch_size: int, processes: int) -> None:
    """Check that the processes can share a global batch equally.

    Raises:
        UsageError: names the key and sizes that work.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        options = [str(n) for n in (below, below + processes) if n]
        raise UsageError(
            f"training.batch_size {batch_size} cannot be divided among {processes} processes: it "
            "is the size of the global batch",
            hint=f"Add training.batch_size={' or '.join(options)}, or start a number of processes "
            "that divides it.",
        )


def check_ranks_agree(
    group: ProcessGroup, recipe: Recipe, facts: Mapping[str, Any], iteration: int
) -> None:
    """Check that all ranks have the same recipe, data and state.

    Raises:
        UsageError: says what differs.
    """
    if group.world_size == 1:
        return
    state = {"recipe": to_yaml(recipe), "training data": str(facts[FACT]), "iteration": iteration}
    for what, value in state.items():
        if len(set(group.all_gather_object(value))) > 1:
            raise UsageError(
                f"the processes of this run do not have the same {what}",
                hint="Give all of them the same command, the same data, and a run folder that "
                "all machines see.",
            )


def check_training_memory(model: VAE, regularizer: nn.Module, batch_size: int) -> None:
    """Check that a training step fits into memory, by a lower bound of what it holds.

    That is each weight with its gradient and Adam's two moments, and for each example of the batch
    its values and an output of every unit, with gradients.

    Raises:
        UsageError: says how much it needs.
    """
    weights = [*model.parameters(), *regularizer.parameters()]
    outputs = sum(weight.shape[0] for weight in weights if weight.dim() > 1)
    values = math.prod(model.example_shape)
    numbers = 4 * sum(weight.numel() for weight in weights) + 2 * batch_size * (values + outputs)
    what = f"training with training.batch_size={batch_size:,}"
    check_fits_in_memory(what, FLOAT32 * numbers, hint=SMALLER_HINT)
