"""The ELBO of held-out examples, and what its KL is made of on the training data.

E[log q(z|x) - log p(z)] = I(z;n) + KL[q(z), p(z)], and where p(z) factorises
KL[q(z), p(z)] = TC + sum_l KL[q(z_l), p(z_l)]. Source: Hoffman and Johnson 2016; Chen et al. 2018,
equation (2).
"""

from typing import NamedTuple, final

import torch

from dpvae_cli.data import Split
from dpvae_cli.evaluation.context import EvaluationContext, Progress
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import encode, reconstruction
from dpvae_cli.sampling.samples import check_log_density, from_codes

BLOCK = 1_000
"""Examples whose noise is drawn together."""
CHUNK = 500
"""Draws of q(z) whose densities are evaluated together."""


@final
class ElboParts(NamedTuple):
    """Each example's terms in nats, and its posterior."""

    reconstruction: PerExample
    kl: PerExample
    means: Codes
    variances: Codes


@torch.no_grad()
def elbo_parts(model: VAE, split: Split, *, seed: int, purpose: str) -> ElboParts:
    """Return the terms of the negative ELBO of a split, from one draw of q(z|x) an example.

    `purpose` names the stream of draws: the same seed and purpose give the same noise.
    """
    parts = []
    for start in range(0, len(split), BLOCK):
        x = split.examples(slice(start, start + BLOCK))
        posterior = encode(model, Split(x), size=BLOCK)
        x = x.to(model.device, model.dtype)
        generator = stream(seed, purpose, "elbo", start, device=model.device)
        z = posterior.sample(generator=generator)
        variances = posterior.log_variance.exp()

        def kl(rows: slice, q: DiagonalGaussian = posterior, z: Codes = z) -> PerExample:
            some = DiagonalGaussian(q.mean[rows], q.log_variance[rows])
            return model.prior.kl(some, z[rows])

        kls = torch.cat(list(map_in_chunks(kl, len(z), size=BLOCK, what="KL")))
        terms = reconstruction(model, x, z), kls
        parts.append((*(term.cpu().double() for term in terms), posterior.mean, variances))
    return ElboParts(*(torch.cat(column) for column in zip(*parts, strict=True)))


@final
class KlDecomposition(NamedTuple):
    """Terms in nats, one number per draw of q(z), float64.

    `dimension_wise_kl` is log prod_l q(z_l) - log p(z); only where p(z) factorises is its mean a
    sum of divergences. `marginal_kl` is log q(z) - log p(z).
    """

    kl: PerExample
    mutual_information: PerExample
    total_correlation: PerExample
    dimension_wise_kl: PerExample
    marginal_kl: PerExample


def decompose_kl(
    model: VAE,
    aggregate: AggregatePosterior,
    *,
    samples: int,
    generator: torch.Generator,
    progress: Progress = report_progress,
) -> KlDecomposition:
    """Draw examples n and codes z of q(z|x_n) and take the KL apart, every density exact.

    Costs as much as `AggregatePosterior.log_prob` and `marginal_log_prob` of all samples, together
    2 L N exponentials each.
    """
    device = aggregate.mean.device
    chosen = torch.randint(len(aggregate), (samples,), generator=generator, device=device)
    posterior = DiagonalGaussian(aggregate.mean[chosen], aggregate.log_variance[chosen])
    drawn = from_codes(model, posterior.sample(generator=generator))
    z, log_p = drawn.z.double(), drawn.log_p.double()
    log_q, log_marginals = [], []
    for part in z.split(CHUNK):
        log_q.append(aggregate.log_prob(part))
        log_marginals.append(aggregate.marginal_log_prob(part).sum(dim=1))
        progress("elbo", sum(map(len, log_q)), samples)
    joint, product = torch.cat(log_q), torch.cat(log_marginals)
    conditional = posterior.log_prob(z.to(device)).cpu()
    total_correlation, dimension_wise_kl = joint - product, product - log_p
    return KlDecomposition(
        kl=conditional - log_p,
        mutual_information=conditional - joint,
        total_correlation=total_correlation,
        dimension_wise_kl=dimension_wise_kl,
        marginal_kl=total_correlation + dimension_wise_kl,
    )


def elbo(context: EvaluationContext) -> list[Result]:
    """Measure the held-out ELBO with its two parts, and the training data's KL in its parts."""
    split = context.evaluation.split
    parts = elbo_parts(
        context.model, context.dataset.split(split), seed=context.seed, purpose="evaluation"
    )
    check_log_density(parts.kl, "KL[q(z|x), p(z)]")
    held_out = {
        "elbo": -(parts.reconstruction + parts.kl),
        "reconstruction": parts.reconstruction,
        "kl": parts.kl,
    }
    terms = decompose_kl(
        context.model,
        context.aggregate,
        samples=context.evaluation.samples,
        generator=context.generator("elbo"),
        progress=context.progress,
    )._asdict()
    training_kl = mean_and_error(terms.pop("kl"))._asdict()
    if not context.model.prior.factorises:
        del terms["dimension_wise_kl"]
    components = len(context.aggregate)
    return [
        *(context.mean_result(name, values, split=split) for name, values in held_out.items()),
        *(
            context.mean_result(
                name, values, split="train", components=components, training_kl=training_kl
            )
            for name, values in terms.items()
        ),
    ]
