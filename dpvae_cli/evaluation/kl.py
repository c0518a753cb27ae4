"""How encoder, aggregate posterior and prior differ: the ELBO, its KL in parts, the sKL.

E[log q(z|x) - log p(z)] = I(z;n) + KL[q(z), p(z)], and where p(z) factorises
KL[q(z), p(z)] = TC + sum_l KL[q(z_l), p(z_l)]. Source: Hoffman and Johnson 2016; Chen et al. 2018,
equation (2).

sKL = KL[p(z), q(z)] + KL[q(z), p(z)] (paper, section 5.1). `skl` averages exact log-densities over
samples of either side; `skl_knn` is the nearest-neighbour estimate of the released code, in z, and
in z0 too.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool
from torch import Tensor

from dpvae_cli.data import Dataset, Split
from dpvae_cli.evaluation.context import EvaluationContext, Progress
from dpvae_cli.foundation.devices import eval_mode
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.divergences import kl_nearest_neighbours
from dpvae_cli.mathematics.estimates import (
    Estimate,
    EstimateWithTerms,
    error_terms_of_mean,
    mean_and_error,
)
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import (
    LatentSamples,
    check_log_density,
    encode,
    from_codes,
    prior_samples,
    reconstruction,
)

THRESHOLD = 0.01
"""Burda's 0.01 where q(z) has variance 1; such a dimension carries 0.005 nats about x."""

BLOCK = 1_000
"""Examples whose noise is drawn together."""
CHUNK = 500
"""Draws of q(z) whose densities are evaluated together."""

CODES = 1_000


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


@final
@dataclass(frozen=True)
class SymmetricKl(EstimateWithTerms):
    """sKL in nats with its halves: what pockets cost (forward) and what leaks cost (reverse)."""

    prior_to_posterior: Estimate
    posterior_to_prior: Estimate


def symmetric_kl(
    model: VAE, aggregate: AggregatePosterior, *, samples: int, generator: torch.Generator
) -> SymmetricKl:
    """Estimate the sKL in nats from `samples` draws a side, log p and log q exact."""
    from_prior = prior_samples(model, samples, generator=generator).with_log_q(aggregate)
    from_q = from_codes(model, aggregate.sample(samples, generator=generator))
    from_q = from_q.with_log_q(aggregate)
    terms = -_log_ratio(from_prior), _log_ratio(from_q)
    forward, reverse = map(mean_and_error, terms)
    error_terms = torch.cat([error_terms_of_mean(each) for each in terms])
    return SymmetricKl(forward.value + reverse.value, error_terms, forward, reverse)


def _log_ratio(samples: LatentSamples) -> Tensor:
    """Return log q(z) - log p(z)."""
    assert samples.log_q is not None
    return samples.log_q - samples.log_p.double()


def skl(context: EvaluationContext) -> list[Result]:
    """Measure the sKL from exact densities."""
    estimate = symmetric_kl(
        context.model,
        context.aggregate,
        samples=context.evaluation.samples,
        generator=context.generator("skl"),
    )
    result = context.estimate_result(
        "skl",
        estimate,
        split="train",
        kl_prior_to_posterior=estimate.prior_to_posterior._asdict(),
        kl_posterior_to_prior=estimate.posterior_to_prior._asdict(),
        components=len(context.aggregate),
    )
    return [result]


def skl_by_label(context: EvaluationContext) -> list[Result]:
    """Measure the sKL between p(z | label) and q(z | label), for each label of the prior.

    The value is the mean over labels; `details` has the sKL of each.
    """
    prior, labels = context.model.prior, context.dataset.class_labels()
    if not prior.labels:
        raise UsageError(
            "skl_by_label is for priors that are given a label",
            hint="Fit one: dpvae fit-prior --given label.",
        )
    aggregate, found = context.aggregate, []
    known = [label for label in prior.labels if bool((labels == label).any())]
    for label in known:
        rows = (labels == label).to(aggregate.mean.device)
        q = AggregatePosterior(aggregate.mean[rows], aggregate.log_variance[rows])
        estimate = symmetric_kl(
            context.model.with_prior(prior.given(label)),
            q,
            samples=context.evaluation.samples,
            generator=context.generator(f"skl_by_label/{label}"),
        )
        found.append(estimate)
        context.progress("skl_by_label", len(found), len(known))
    if not found:
        raise UsageError("none of the prior's labels is in the training data")
    error_terms = torch.cat([each.error_terms for each in found]) / len(found)
    mean = EstimateWithTerms(sum(each.value for each in found) / len(found), error_terms)
    result = context.estimate_result(
        "skl_by_label",
        mean,
        split="train",
        labels=known,
        values=[each.value for each in found],
        standard_errors=[each.standard_error for each in found],
    )
    return [result]


def skl_knn(context: EvaluationContext) -> list[Result]:
    """Estimate the sKL by nearest neighbours, in z and, where the prior has one, in z0.

    The true divergence is the same in both spaces, the estimate is not.
    """
    samples = context.evaluation.samples
    generator = context.generator("skl_knn")
    p = prior_samples(context.model, samples, generator=generator)
    codes = context.aggregate.sample(samples, generator=generator)
    q = from_codes(context.model, codes)
    results = [_nearest_neighbours(context, "skl_knn", p.z, q.z)]
    if p.z0 is not None and q.z0 is not None:
        results.append(_nearest_neighbours(context, "skl_knn_generation", p.z0, q.z0))
    return results


def _nearest_neighbours(context: EvaluationContext, name: str, p: Tensor, q: Tensor) -> Result:
    k = context.evaluation.neighbours
    points = p.double().numpy(), q.double().numpy()
    forward = kl_nearest_neighbours(*points, k=k)
    reverse = kl_nearest_neighbours(*reversed(points), k=k)
    error_terms = forward.error_terms + reverse.error_terms
    return context.estimate_result(
        name,
        EstimateWithTerms(forward.value + reverse.value, error_terms),
        split="train",
        neighbours=k,
        coinciding=forward.num_duplicates + reverse.num_duplicates,
        kl_prior_to_posterior=forward.value,
        kl_posterior_to_prior=reverse.value,
        standard_error_note="from halves of the samples; says nothing of the bias",
    )


@torch.no_grad()
def validate(model: VAE, dataset: Dataset, *, seed: int) -> dict[str, Any]:
    """Return the validation record: ELBO and its parts in nats per example, active units, sKL.

    The noise is the same at every validation, so that differences are the model's. The sKL takes
    1,000 training codes as q(z): it sees pockets grow, and is biased upwards. The model is put into
    evaluation mode meanwhile, and compiled networks run as they were written.
    """
    with eval_mode(model), torch.compiler.set_stance("force_eager"):
        parts = elbo_parts(model, dataset.validation, seed=seed, purpose="validation")
        codes = encode(model, Split(dataset.train.stored[:CODES]))
        skl = symmetric_kl(
            model,
            AggregatePosterior(codes.mean, codes.log_variance),
            samples=CODES,
            generator=stream(seed, "validation", "skl"),
        )
    reconstruction, kl = float(parts.reconstruction.mean()), float(parts.kl.mean())
    return {
        "elbo": -(reconstruction + kl),
        "reconstruction": reconstruction,
        "kl": kl,
        "active_units": int(are_active(parts.means, parts.variances).sum()),
        "skl": skl.value,
    }
