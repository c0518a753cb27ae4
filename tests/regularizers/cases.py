"""Shared pieces of the regularizer tests: small specs, random priors, the weighted loss."""

from typing import Any

import torch
from torch import Tensor

from dpvae_cli.architectures import Mlp
from dpvae_cli.foundation.randomness import fork_rng, stream
from dpvae_cli.priors import AnyPrior, Prior
from dpvae_cli.regularizers import AnyRegularizer, Batch, Regularizer, Term
from dpvae_cli.regularizers.base import DataSizes, RegularizerSpec
from tests.mathematics.random_models import members, randomised

BATCH, DATASET, LATENT = 16, 500, 3
TRAINING = DataSizes(batch_size=BATCH, dataset_size=DATASET)
# what a kind needs beside its defaults (or is too slow without)
FIELDS: dict[str, dict[str, Any]] = {
    "beta_b": {"stop_step": 40},
    "factor": {"width": 16, "depth": 2},
}


def kind_of(spec_class: type) -> str:
    return spec_class.model_fields["kind"].default


def spec_of(spec_class: type, **fields: Any) -> RegularizerSpec:
    """Return a spec of the class, given by field names (not aliases)."""
    chosen = FIELDS.get(kind_of(spec_class), {}) | fields
    infos = spec_class.model_fields
    return spec_class(**{infos[name].alias or name: value for name, value in chosen.items()})


def build(spec: RegularizerSpec, *, sizes: DataSizes = TRAINING) -> Regularizer:
    """Return the regularizer in float64; its networks, if any, are the same at every call."""
    with fork_rng(0, "regularizer"):
        return spec.build(LATENT, sizes).double()


def random_prior(spec_class: type) -> Prior:
    """Return a prior far from its initial state, whose density stays what it is."""
    encoder, _ = Mlp(latent_dim=LATENT, hidden=(8,)).build((LATENT,))
    prior = spec_class().build(LATENT, randomised(encoder, seed=4), (LATENT,))
    return randomised(prior, gain=1.2, seed=3).eval()


def terms_of(
    regularizer: Regularizer, posterior: Any, z: Tensor, prior: Prior, *, iteration: int = 10
) -> dict[str, Term]:
    generator = stream(0, "further")
    return regularizer.terms(Batch(posterior, z, prior, iteration, generator))


def weighted(terms: dict[str, Term]) -> Tensor:
    """Return what training adds to the reconstruction."""
    return torch.stack([term.weight * term.value.mean() for term in terms.values()]).sum()


PRIORS = members(AnyPrior)
REGULARIZERS = members(AnyRegularizer)
