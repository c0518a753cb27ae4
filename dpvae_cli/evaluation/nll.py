"""Negative log-likelihood of held-out examples by importance sampling (paper, section 5.1).

log p(x) ~ log 1/S sum_s w_s,  w_s = p(x|z_s) p(z_s) / r(z_s|x),  z_s ~ r(z|x).

The proposal r is an even mixture of the encoder's q(z|x), which the paper draws from alone, and a
Gaussian fitted to this example: an encoder that is too narrow or off the true posterior would
otherwise miss most of p(x) without showing it in the standard error. The encoder's half keeps every
weight below twice what it would be with the encoder alone, so the effective sample size is halved
at worst. Any r that is positive everywhere gives p(x) in expectation.

The paper prints the formula without its minus sign. -log of a mean overestimates: the value is an
upper bound in expectation, and the tighter the more samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from dpvae_cli.data import Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.nll_cache import ImportanceEstimate, cache_key
from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.randomness import normal_noise, stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.mathematics.estimates import error_terms_of_mean
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import batch_size_for, check_log_density, encode, reconstruction

BITS_NOTE = "8-bit data in [0, 1] without dequantisation"
FEW = 50
"""A median effective sample size below it is warned of."""
DRAWN = 1_024
"""Importance samples of an example that are drawn together, however many are decoded together."""

PROPOSAL = "half q(z|x), half fitted"
"""What records and kept estimates say; changes whenever the draws below do."""
MOST_STEPS, DRAWS, LEARNING_RATE = 100, 8, 1.0
"""Of Adam on an example's ELBO; the rate is in standard deviations of q(z|x) and falls to 0."""
SHARE = 4
"""The fit decodes one code for every four importance samples at most."""
WIDENING = 1.2
"""Factor on the fitted deviations: the best diagonal Gaussian is narrower than the posterior."""

Draws = Float[Tensor, "batch draws latent"]


@final
@dataclass(frozen=True)
class Proposal:
    """An even mixture of two Gaussians for each example, drawn from in exact halves."""

    encoded: DiagonalGaussian
    fitted: DiagonalGaussian

    def sample(self, count: int, *, generators: Sequence[torch.Generator]) -> Draws:
        """Draw codes of every example from its own generator, the encoder's first."""
        noise = _noise(self.encoded, count, generators)
        own = (count + 1) // 2
        halves = (self.encoded, noise[:, :own]), (self.fitted, noise[:, own:])
        return torch.cat([_at(gaussian, part) for gaussian, part in halves], dim=1)

    def log_prob(self, z: Draws) -> Float[Tensor, "batch draws"]:
        """Return the log-density of the mixture that `sample` drew all of `z` from, in nats."""
        count = z.shape[1]
        own = (count + 1) // 2
        log_shares = torch.tensor([own / count, 1 - own / count], dtype=z.dtype).log()
        log_probs = (
            _normal(gaussian).log_prob(z).sum(dim=-1) + log_share
            for gaussian, log_share in zip((self.encoded, self.fitted), log_shares, strict=True)
        )
        return torch.logaddexp(*log_probs)


@torch.enable_grad()
def fit_posteriors(
    model: VAE,
    x: Examples,
    start: DiagonalGaussian,
    *,
    samples: int,
    generators: Sequence[torch.Generator],
) -> DiagonalGaussian:
    """Return the Gaussian that maximises each example's ELBO, widened a little.

    Where the search ends at numbers that are not finite it is the encoder's. The model's weights
    get no gradients; few `samples` to be drawn are worth few steps.

    Source: Cremer et al. 2018, section 3, who measure what an encoder misses in this way.
    """
    steps = min(MOST_STEPS, samples // (SHARE * DRAWS))
    noise = _noise(start, steps * DRAWS, generators).unflatten(1, (steps, DRAWS))
    deviation = torch.exp(0.5 * start.log_variance)
    shift, growth = (torch.zeros_like(deviation, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([shift, growth], lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    repeated = x.unsqueeze(1).expand(-1, DRAWS, *x.shape[1:]).flatten(0, 1)
    for step in range(steps):
        now = DiagonalGaussian(start.mean + deviation * shift, start.log_variance + growth)
        z = _at(now, noise[:, step]).flatten(0, 1)
        log_joint = log_prior(model, z) - reconstruction(model, repeated, z)
        optimizer.zero_grad()
        (-log_joint.sum() / DRAWS - now.entropy().sum()).backward(inputs=[shift, growth])
        optimizer.step()
        scheduler.step()
    mean, log_variance = start.mean + deviation * shift, start.log_variance + growth
    is_finite = (mean + log_variance).isfinite().all(dim=-1, keepdim=True)
    return DiagonalGaussian(
        torch.where(is_finite, mean, start.mean).detach(),
        torch.where(is_finite, log_variance, start.log_variance).detach() + 2 * math.log(WIDENING),
    )


def log_prior(model: VAE, z: Codes) -> PerExample:
    """Return log p(z) of each code in nats, in parts where memory runs out."""
    parts = map_in_chunks(
        lambda rows: model.prior.log_prob(z[rows]), len(z), size=len(z), what="log p(z)"
    )
    return check_log_density(torch.cat(list(parts)), "log p(z)")


def _noise(
    like: DiagonalGaussian, count: int, generators: Sequence[torch.Generator]
) -> Float[Tensor, "batch draws latent"]:
    """Return standard normal noise, that of each example from its own generator."""
    shape = count, like.mean.shape[1]
    return torch.stack([normal_noise(*shape, like=like.mean, generator=g) for g in generators])


def _at(gaussian: DiagonalGaussian, noise: Draws) -> Draws:
    normal = _normal(gaussian)
    return normal.loc + normal.scale * noise


def _normal(gaussian: DiagonalGaussian) -> Normal:
    """Return the Gaussian of each example for any number of draws, `(batch, 1, latent)`."""
    return Normal(gaussian.mean.unsqueeze(1), torch.exp(0.5 * gaussian.log_variance).unsqueeze(1))


@torch.no_grad()
def negative_log_likelihoods(
    model: VAE, x: Examples, *, samples: int, generators: Sequence[torch.Generator]
) -> list[ImportanceEstimate]:
    """Estimate -log p(x) of some examples in nats, each from the draws of its own generator.

    Their samples are decoded together, so x should be few where samples are many.

    Source: Rezende et al. 2014, appendix E; paper, section 5.1 (21,000 samples).
    """
    posterior = encode(model, Split(x), size=len(x))
    log_prior(model, posterior.mean)  # raises where it is NaN, before anything is fitted
    fitted = fit_posteriors(model, x, posterior, samples=samples, generators=generators)
    proposal = Proposal(posterior, fitted)
    blocks = []
    for start in range(0, samples, DRAWN):
        count = min(DRAWN, samples - start)
        draws = proposal.sample(count, generators=generators)
        z = draws.flatten(0, 1)
        # a view where x is one example, its copies otherwise
        repeated = x.unsqueeze(1).expand(-1, count, *x.shape[1:]).flatten(0, 1)
        log_joint = (log_prior(model, z) - reconstruction(model, repeated, z)).double()
        blocks.append(log_joint.view(len(x), count) - proposal.log_prob(draws).double())
    return [_summarise(log_weights) for log_weights in torch.cat(blocks, dim=1)]


def _summarise(log_weights: PerExample) -> ImportanceEstimate:
    samples, log_total = len(log_weights), torch.logsumexp(log_weights, dim=0)
    concentration = float(torch.exp(log_weights - log_total).square().sum())
    error = math.sqrt(max(samples * concentration - 1, 0.0) / samples)
    return ImportanceEstimate(float(math.log(samples) - log_total), error, 1 / concentration)


def nll(context: EvaluationContext) -> list[Result]:
    """Measure the mean -log p(x) over held-out examples, from the start of the split.

    Finished examples are kept, so that an interrupted measurement goes on with the same numbers.
    Few samples an example are decoded together with those of the next examples; who shares a batch
    depends on the split alone, so that rounding does not depend on how many are asked for.
    """
    evaluation = context.evaluation
    total = len(context.dataset.split(evaluation.split))
    count = min(evaluation.nll_images, total)
    together = context.group.world_size * max(
        1, batch_size_for(context.model) // evaluation.nll_samples
    )
    found: list[ImportanceEstimate] = []
    context.progress("nll", 0, count)
    with context.nll_cache.open():
        while len(found) < count:
            start = len(found)
            found += _estimates(context, range(start, min(start + together, total)))
            context.progress("nll", min(len(found), count), count)
    estimates = found[:count]
    values = torch.tensor([estimate.nll for estimate in estimates], dtype=torch.float64)
    mean = float(values.mean())
    over_images = float(values.std()) / math.sqrt(count) if count > 1 else None
    over_samples = math.sqrt(sum(e.standard_error**2 for e in estimates)) / count
    effective = sorted(estimate.effective_samples for estimate in estimates)
    eight_bit, dimensions = context.dataset.eight_bit, math.prod(context.model.example_shape)
    bits = context.model.likelihood.bits_per_dimension(mean, dimensions, eight_bit=eight_bit)
    few_note = None
    if (median := effective[count // 2]) < FEW:
        few_note = (
            f"half of the examples have {median:.2g} effective samples or fewer of "
            f"{evaluation.nll_samples:,}: nll may be too high by more than its standard error "
            "says. Raise evaluation.nll_samples"
        )
    result = context.result(
        "nll",
        mean,
        over_images,
        samples=evaluation.nll_samples,
        split=evaluation.split,
        error_terms={"value": error_terms_of_mean(values)},
        images=count,
        images_in_split=total,
        standard_error_over_images=over_images,
        standard_error_over_importance_samples=over_samples,
        effective_samples_median=median,
        effective_samples_minimum=effective[0],
        effective_samples_note=few_note,
        proposal=PROPOSAL,
        bits_per_dimension=bits,
        bits_per_dimension_note=BITS_NOTE if eight_bit and bits else None,
    )
    return [result]


def _estimates(context: EvaluationContext, positions: range) -> list[ImportanceEstimate]:
    """Return the estimates of some examples, from the file or by drawing."""
    evaluation, model = context.evaluation, context.model
    x = context.dataset.split(evaluation.split).examples(slice(positions.start, positions.stop))
    samples, seed = evaluation.nll_samples, context.seed
    keys = [
        cache_key(example, PROPOSAL, evaluation.split, index, samples, seed, model.device.type)
        for index, example in zip(positions, x.split(1), strict=True)
    ]
    kept = [context.nll_cache.get(key) for key in keys]
    if context.group.all_true(None not in kept):
        return [estimate for estimate in kept if estimate is not None]

    def estimate_rows(rows: Tensor) -> Tensor:
        generators = [
            stream(seed, "nll", positions[row], device=model.device) for row in rows.tolist()
        ]
        return torch.tensor(
            negative_log_likelihoods(
                model, x[rows].to(model.device, model.dtype), samples=samples, generators=generators
            ),
            dtype=torch.float64,
        )

    rows = context.group.map_sharded(estimate_rows, torch.arange(len(positions)))
    estimates = [ImportanceEstimate(*row) for row in rows.tolist()]
    context.nll_cache.add(dict(zip(keys, estimates, strict=True)))
    return estimates
