"""What is checked before training: that data, batch size and processes fit together."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.allocation import FLOAT32, SMALLER_HINT
from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import check_fits_in_memory
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.recipe.schema import MIN_BATCH_SIZE

CHECKED_EXAMPLES, CHUNK_SIZE = 10_000, 500
"""Training examples that must fit the likelihood, and how many of them are in memory at a time."""


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
    state = {
        "recipe": to_yaml(recipe),
        "training data": facts["data_fingerprint"],
        "iteration": iteration,
    }
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
