"""What a validation measures: the ELBO, units in use, and how far q(z) and p(z) are apart."""

from typing import Any

import torch

from dpvae_cli.data import Dataset, Split
from dpvae_cli.evaluation.active_units import are_active
from dpvae_cli.evaluation.elbo import elbo_parts
from dpvae_cli.evaluation.skl import symmetric_kl
from dpvae_cli.foundation.allocation import eval_mode
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import encode

CODES = 1_000


@torch.no_grad()
def validate(model: VAE, dataset: Dataset, *, seed: int) -> dict[str, Any]:
    """Return the validation record: ELBO and its parts in nats per example, active units, sKL.

    The noise is the same at every validation, so that differences are the model's. The sKL takes
    1,000 training codes as q(z): it sees pockets grow, and is biased upwards. The model is put into
    evaluation mode meanwhile, and compiled networks run as they were written.
    """
    with eval_mode(model), torch.compiler.set_stance("force_eager"):
        return _measure(model, dataset, seed)


def _measure(model: VAE, dataset: Dataset, seed: int) -> dict[str, Any]:
    parts = elbo_parts(model, dataset.validation, seed=seed, purpose="validation")
    reconstruction, kl = float(parts.reconstruction.mean()), float(parts.kl.mean())
    some = Split(dataset.train.stored[:CODES])
    codes = encode(model, some)
    skl = symmetric_kl(
        model,
        AggregatePosterior(codes.mean, codes.log_variance),
        samples=CODES,
        generator=stream(seed, "validation", "skl"),
    )
    return {
        "elbo": -(reconstruction + kl),
        "reconstruction": reconstruction,
        "kl": kl,
        "active_units": int(are_active(parts.means, parts.variances).sum()),
        "skl": skl.value,
    }
