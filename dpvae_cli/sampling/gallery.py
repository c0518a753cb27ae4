"""Everything Figures 1, 3 and 5 show of a model, as arrays."""

import numpy as np
import torch

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.plane import density_map
from dpvae_cli.sampling.samples import (
    decode,
    decode_to_data_units,
    drawable,
    from_codes,
    high_posterior,
    low_posterior,
    lowest,
    prior_samples,
)

IMAGES, POOL = 36, 5
"""Images of a grid, and samples per image that those with the lowest log q(z) are chosen from."""
STRAY = 0.001
"""Share of the samples at either end of a dimension that the map need not show."""
IN_DATA_SPACE = ("train", "samples", "high_x")
"""Arrays that are given in data units."""


def gallery(
    model: VAE, aggregate: AggregatePosterior, *, seed: int, pool: int, samples: int = 36
) -> dict[str, np.ndarray]:
    """Return decoded prior, low-posterior and high-posterior samples under the names of Figure 5.

    They are in data units. Low- and high-posterior samples are chosen from `pool` times as many.
    """
    prior = prior_samples(model, samples, generator=stream(seed, "gallery", "prior"))
    choose = {"pool": pool * samples, "generator": stream(seed, "gallery", "extremes")}
    low = low_posterior(model, aggregate, samples, **choose)  # type: ignore[arg-type]
    high = high_posterior(model, aggregate, samples, **choose)  # type: ignore[arg-type]
    drawn = {"prior": prior, "low_posterior": low, "high_posterior": high}
    return {name: decode_to_data_units(model, some.z) for name, some in drawn.items()}


def decoded_samples(
    model: VAE, z: Codes, *, log_q: PerExample, repaired: torch.Tensor | None
) -> dict[str, np.ndarray]:
    """Return images (n, c, h, w) in bytes, as `plotting.diagnosis.grids` takes them, and `pool`.

    `z` are samples of the model's prior with their `log_q` in nats, `repaired` those of another
    prior.
    """
    codes = {"samples": z[:IMAGES], "lowest": z[lowest(log_q, IMAGES)]}
    if repaired is not None:
        codes["repaired"] = repaired
    images = {name: drawable(model, decode_to_data_units(model, z)) for name, z in codes.items()}
    return images | {"pool": np.array(len(log_q))}


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
