"""Everything Figures 1 and 3 show of a model with a two-dimensional latent space, as arrays."""

import numpy as np
import torch

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.density_map import density_map
from dpvae_cli.sampling.encodings import decode
from dpvae_cli.sampling.samples import from_codes, high_posterior, prior_samples

STRAY = 0.001
"""Share of the samples at either end of a dimension that the map need not show."""

IN_DATA_SPACE = ("train", "samples", "high_x")
"""Arrays that are given in data units."""


def portrait(
    model: VAE,
    aggregate: AggregatePosterior,
    dataset: Dataset,
    *,
    seed: int,
    samples: int = 2_000,
    extremes: int = 5,
    pool: int = 5_000,
) -> dict[str, np.ndarray]:
    """Return samples, codes, both latent spaces, the density map and high-posterior samples.

    The `extremes` high-posterior samples (paper, Figure 3: five) are chosen from `pool`.

    Raises:
        UsageError: the latent space or the data is not two-dimensional, or there is no z0 to draw.
    """
    if model.latent_dim != 2 or model.example_shape != (2,):
        raise UsageError(
            f"this figure needs 2-dimensional data and latent_dim 2; this model has data of shape "
            f"{model.example_shape} and latent_dim {model.latent_dim}"
        )
    model.prior.require_generation()
    generator = stream(seed, "portrait", "prior")
    drawn = prior_samples(model, samples, generator=generator).with_log_q(aggregate)
    codes = from_codes(
        model, aggregate.sample(samples, generator=stream(seed, "portrait", "codes"))
    )
    generator = stream(seed, "portrait", "extremes")
    high = high_posterior(model, aggregate, extremes, pool=pool, generator=generator)
    tensors = {
        "train": dataset.train.examples(slice(0, samples)),
        "samples": decode(model, drawn.z),
        "sample_log_density": drawn.base_log_prob,
        "sample_log_q": drawn.log_q,
        "sample_z": drawn.z,
        "sample_z0": drawn.z0,
        "codes": codes.z,
        "codes_z0": codes.z0,
        "high_z": high.z,
        "high_z0": high.z0,
        "high_x": decode(model, high.z),
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    for name in IN_DATA_SPACE:
        arrays[name] = model.units.inverse_transform(torch.from_numpy(arrays[name])).numpy()
    # A single sample far out does not shrink everything else.
    inner = np.quantile(arrays["sample_z"], [STRAY, 1 - STRAY], axis=0)
    around = np.concatenate([arrays["codes"], arrays["high_z"], inner])
    return arrays | density_map(aggregate, also=around, model=model)
