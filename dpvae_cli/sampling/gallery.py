"""Everything Figure 5 shows of a model, as arrays."""

import numpy as np
import torch

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import decode_to_data_units, drawable
from dpvae_cli.sampling.samples import high_posterior, low_posterior, lowest, prior_samples

IMAGES, POOL = 36, 5
"""Images of a grid, and samples per image that those with the lowest log q(z) are chosen from."""


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
