"""Everything Figure 5 shows of a model, as arrays."""

import numpy as np

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import decode_to_data_units
from dpvae_cli.sampling.samples import high_posterior, low_posterior, prior_samples


def gallery(
    model: VAE, aggregate: AggregatePosterior, *, seed: int, pool: int, samples: int = 36
) -> dict[str, np.ndarray]:
    """Return decoded prior, low-posterior and high-posterior samples under the names of Figure 5.

    They are in data units.

    Args:
        model: a trained model.
        aggregate: its q(z).
        seed: of all draws.
        pool: low- and high-posterior samples are chosen from `pool` times as many.
        samples: images of each kind.
    """
    prior = prior_samples(model, samples, generator=stream(seed, "gallery", "prior"))
    choose = {"pool": pool * samples, "generator": stream(seed, "gallery", "extremes")}
    low = low_posterior(model, aggregate, samples, **choose)  # type: ignore[arg-type]
    high = high_posterior(model, aggregate, samples, **choose)  # type: ignore[arg-type]
    drawn = {"prior": prior, "low_posterior": low, "high_posterior": high}
    return {name: decode_to_data_units(model, some.z) for name, some in drawn.items()}
