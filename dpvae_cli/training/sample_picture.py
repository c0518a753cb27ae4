"""The picture of samples in every run folder."""

from collections.abc import Callable

import numpy as np

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import VAE
from dpvae_cli.plotting import picture
from dpvae_cli.plotting.gallery import COLUMNS
from dpvae_cli.sampling.encodings import decode_to_data_units, drawable
from dpvae_cli.sampling.samples import prior_samples
from dpvae_cli.training.run_folder import RunFolder

PICTURED, TABLED, REFERENCE = 64, 1_000, 1_000
"""Samples in the picture, and where they are points or rows of a table; data behind these."""


def draw_samples(
    model: VAE, load_dataset: Callable[[], Dataset], folder: RunFolder, *, seed: int
) -> None:
    """Write the run's sample picture; points and tables are drawn over the data.

    Raises:
        MissingError: these are wanted and the data is not there.
    """
    is_flat = len(model.example_shape) == 1
    count = TABLED if is_flat else PICTURED
    drawn = prior_samples(model, count, generator=stream(seed, "picture"))
    picture.save(
        folder.samples,
        drawable(model, decode_to_data_units(model, drawn.z)),
        log_density=drawn.probability.numpy(),
        title=title(folder.path.resolve().name, count, "prior"),
        reference=reference(load_dataset()) if is_flat else None,
        columns=model.units.columns,
    )


def reference(dataset: Dataset) -> np.ndarray:
    """Return data to draw behind samples, in its own units."""
    shown: np.ndarray = dataset.units.inverse_transform(
        dataset.test.examples(slice(0, REFERENCE))
    ).numpy()
    return shown


def title(label: str, count: int, kind: str) -> str:
    """Return what stands over samples of a run."""
    return f"{label}: {count:,} {COLUMNS[kind] if count > 1 else COLUMNS[kind].removesuffix('s')}"
