"""The picture of samples in every run folder."""

from collections.abc import Callable

import numpy as np

from dpvae_cli.data import Dataset, Split
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import VAE
from dpvae_cli.plotting import picture
from dpvae_cli.sampling.encodings import decode_to_data_units, drawable
from dpvae_cli.sampling.samples import prior_samples
from dpvae_cli.training.run_folder import RunFolder

PICTURED, REFERENCE = 64, 1_000


def draw_samples(
    model: VAE, load_dataset: Callable[[], Dataset], folder: RunFolder, *, seed: int
) -> None:
    """Write the run's sample picture; points in the plane are drawn over the data.

    Raises:
        MissingError: these are wanted and the data is not there.
    """
    drawn = prior_samples(model, PICTURED, generator=stream(seed, "picture"))
    decoded = decode_to_data_units(model, drawn.z)
    is_planar = model.example_shape == (2,)
    reference = reference_points(model, load_dataset().test) if is_planar else None
    picture.save(
        folder.samples,
        drawable(model, decoded),
        log_density=drawn.probability.numpy(),
        reference=reference,
    )


def reference_points(model: VAE, split: Split) -> np.ndarray:
    """Return data to show behind samples in the plane, in its own units."""
    points = split.examples(slice(0, REFERENCE))
    array: np.ndarray = model.units.inverse_transform(points).numpy()
    return array
