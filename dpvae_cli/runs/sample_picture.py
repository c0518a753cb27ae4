"""Pictures of samples in run folders."""

from collections.abc import Callable

import numpy as np
import torch

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting.diagnosis import grids
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.sampling.gallery import IMAGES, POOL, decoded_samples
from dpvae_cli.sampling.samples import decode_to_data_units, drawable, prior_samples

IMAGE_COUNT, ROW_COUNT, REFERENCE = 64, 1_000, 1_000
"""Samples of images, samples of points or rows, and data drawn behind the latter."""


def save_samples(
    model: VAE, load_dataset: Callable[[], Dataset], folder: RunFolder, *, seed: int
) -> None:
    """Write the run's sample picture; points and rows are drawn over the data if available."""
    count = ROW_COUNT if len(model.example_shape) == 1 else IMAGE_COUNT
    drawn = prior_samples(model, count, generator=stream(seed, "picture"))
    samples.save_picture(
        folder.samples,
        drawable(model, decode_to_data_units(model, drawn.z)),
        log_density=drawn.base_log_prob.numpy(),
        title=samples_title(folder.path.resolve().name, count, "prior"),
        reference=background_data(model, load_dataset),
        columns=model.units.columns,
    )


def save_comparison(
    model: VAE, fitted: VAE, aggregate: AggregatePosterior, folder: RunFolder, *, seed: int
) -> None:
    """Write samples before and after a prior was fitted, side by side; only of images.

    `aggregate` is q(z) over the training codes; it picks the low-posterior samples.
    """
    if not is_image(model.example_shape):
        return
    z = prior_samples(model, POOL * IMAGES, generator=stream(seed, "comparison", "before")).z
    after = prior_samples(fitted, IMAGES, generator=stream(seed, "comparison", "after")).z
    log_q = aggregate.log_prob(z.to(aggregate.mean.device, torch.float64)).cpu()
    figure = grids(decoded_samples(model, z, log_q=log_q, repaired=after))
    style.add_title(figure, folder.path.resolve().name)
    style.save(figure, folder.comparison)


def background_data(model: VAE, load_dataset: Callable[[], Dataset]) -> np.ndarray | None:
    """Return data to draw behind points and rows; None if it is missing."""
    if len(model.example_shape) != 1:
        return None
    try:
        return example_rows(load_dataset())
    except (MissingError, UsageError):
        return None


def example_rows(dataset: Dataset) -> np.ndarray:
    """Return test examples in the data's own units."""
    shown: np.ndarray = dataset.units.inverse_transform(
        dataset.test.examples(slice(0, REFERENCE))
    ).numpy()
    return shown


def samples_title(label: str, count: int, kind: str) -> str:
    """Return the title of samples of a run."""
    return f"{label}: {count:,} {kind.replace('_', '-')} sample{'s' if count > 1 else ''}"
