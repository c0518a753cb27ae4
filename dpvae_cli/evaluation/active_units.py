"""Active units: latent dimensions that depend on the example."""

from jaxtyping import Bool
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.sampling.encodings import encode

THRESHOLD = 0.01
"""Burda's 0.01 where q(z) has variance 1; such a dimension carries 0.005 nats about x."""


def are_active(means: Codes, variances: Codes) -> Bool[Tensor, " latent"]:
    """Return for each dimension whether over 1 % of the variance of q(z) comes from the example.

    Var_x[mean_l] / (Var_x[mean_l] + E_x[variance_l]) > 0.01, the same at any scale of a dimension.
    The denominator is the variance of q(z_l): where it is that of the standard normal prior, the
    criterion is Burda's. Codes that are points, of variance 0, are active where they vary.

    Source: Burda et al. 2016, section 5.2: Var_x[mean_l] > 0.01.
    """
    signal, noise = means.double().var(dim=0, correction=0), variances.double().mean(dim=0)
    return signal > THRESHOLD * (signal + noise)


def active_units(context: EvaluationContext) -> list[Result]:
    """Count the active units over all held-out examples; nothing is drawn."""
    posterior = encode(context.model, context.dataset.split(context.evaluation.split))
    count = int(are_active(posterior.mean, posterior.log_variance.exp()).sum())
    result = context.result(
        "active_units",
        float(count),
        None,
        samples=len(posterior.mean),
        split=context.evaluation.split,
        latent_dim=context.model.latent_dim,
    )
    return [result]
