"""The picture of samples in every run folder."""

from collections.abc import Callable

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import VAE
from dpvae_cli.plotting import picture
from dpvae_cli.sampling.encodings import decode
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
    decoded = decode(model, drawn.z).numpy()
    is_planar = model.example_shape == (2,)
    reference = load_dataset().test.examples(slice(0, REFERENCE)).numpy() if is_planar else None
    log_density = drawn.probability.numpy()
    picture.save(folder.samples, decoded, log_density=log_density, reference=reference)
