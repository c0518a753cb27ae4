"""What a recipe would train: shapes, parameter counts, and a time estimated from a few steps."""

import math
import time
from pathlib import Path
from statistics import median

import torch

from dpvae_cli.data import Dataset, Split
from dpvae_cli.data.dataset import SPLITS, DatasetSummary
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.devices import num_parameters
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.progress import format_duration
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.recipe import Recipe
from dpvae_cli.training.execution import cpu_threads
from dpvae_cli.training.train import Trainer

WARM_UP, LEAST, MOST = 3, 5, 200
"""Steps before the clock starts, and how many are timed at least and at most."""
SECONDS = 1.0
"""The clock stops after so long."""


def describe(
    recipe: Recipe, *, device: str = "auto", data_root: Path | None = None
) -> dict[str, str]:
    """Return readable facts about a run without reading its data's values or writing anything.

    The time comes from a few steps and a validation of a throwaway model on random zeros and ones;
    checkpoints come on top.

    Raises:
        UsageError: the architecture does not fit the data's shape, or the run not into memory.
        MissingError: the shape is in a file that is not there.
    """
    chosen = devices.resolve(device)
    shape = recipe.data.example_shape(data_root)
    trainer = Trainer(recipe, _stand_in(shape, recipe.training.batch_size), chosen)
    parts = dict(trainer.state.model.named_children())
    adversary = trainer.state.regularizer.adversary
    if adversary is not None:
        parts["discriminator"] = adversary
    summary, ema, fit = _summary(recipe, data_root), recipe.training.ema, recipe.fit_prior
    data: dict[str, str] = {}
    if isinstance(summary, MissingError):
        data["data"] = f"not there: {summary}"
    else:
        data |= {f"{name} examples": f"{summary.sizes[name]:,}" for name in SPLITS}
        if summary.remarks:
            data["data"] = "; ".join(summary.remarks)
    fitted: dict[str, str] = {}
    if fit is not None:
        most = f"{fit.kind}, at most {recipe.fitting.iterations:,} iterations"
        fitted = {"prior fitted afterwards": most}
    return {
        **data,
        "example shape": " x ".join(map(str, shape)),
        "latent dimensions": str(recipe.architecture.latent_dim),
        **{f"parameters: {name}": f"{num_parameters(part):,}" for name, part in parts.items()},
        "parameters: model": f"{num_parameters(trainer.state.model):,}",
        "iterations": f"{recipe.training.iterations:,}",
        "batch size": f"{recipe.training.batch_size:,}",
        "precision": str(trainer.precision),
        "averaged weights": "none" if ema is None else f"ema, decay {ema:g}",
        **fitted,
        "device": str(chosen),
        "estimated time": format_duration(_seconds(trainer, summary)),
    }


def estimate_seconds(
    recipe: Recipe, *, device: str = "auto", data_root: Path | None = None
) -> float:
    """Return how long a run's training will take, from a few steps of a throwaway model.

    Raises:
        UsageError: the architecture does not fit the data's shape, or the run not into memory.
        MissingError: the shape is in a file that is not there.
    """
    shape = recipe.data.example_shape(data_root)
    stand_in = _stand_in(shape, recipe.training.batch_size)
    trainer = Trainer(recipe, stand_in, devices.resolve(device))
    return _seconds(trainer, _summary(recipe, data_root))


def _summary(recipe: Recipe, data_root: Path | None) -> DatasetSummary | MissingError:
    try:
        return recipe.data.summary(data_root)
    except MissingError as error:
        return error


def _stand_in(shape: tuple[int, ...], batch_size: int) -> Dataset:
    """Return random zeros and ones, which every likelihood takes."""
    generator = stream(0, "dry run")
    values = torch.randint(0, 2, (2 * batch_size, *shape), generator=generator).float()
    split = Split(values)
    return Dataset("stand-in", train=split, validation=split, test=split)


def _seconds(trainer: Trainer, summary: DatasetSummary | MissingError) -> float:
    """Return how long steps and validations take, with as many threads as training takes."""
    training, stand_in = trainer.recipe.training, len(trainer.dataset.validation)
    validated = stand_in if isinstance(summary, MissingError) else summary.sizes["validation"]
    with cpu_threads(trainer.state.model, training.batch_size):
        for _ in range(WARM_UP):
            _timed_step(trainer)
        steps: list[float] = []
        while len(steps) < LEAST or (sum(steps) < SECONDS and len(steps) < MOST):
            steps.append(_timed_step(trainer))
        start = time.perf_counter()
        trainer.validate()
        validation = (time.perf_counter() - start) * validated / stand_in
    validations = math.ceil(training.iterations / training.validate_every)
    return median(steps) * training.iterations + validation * validations


def _timed_step(trainer: Trainer) -> float:
    start = time.perf_counter()
    terms = trainer.step()
    float(terms["reconstruction"].value.detach().sum())  # waits for a GPU
    return time.perf_counter() - start
