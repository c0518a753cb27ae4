"""Negative log-likelihood of held-out examples by importance sampling (paper, section 5.1).

log p(x) ~ log 1/S sum_s w_s,  w_s = p(x|z_s) p(z_s) / r(z_s|x),  z_s ~ r(z|x).

The proposal r is an even mixture of the encoder's q(z|x), which the paper draws from alone, and a
Gaussian fitted to this example: an encoder that is too narrow or off the true posterior would
otherwise miss most of p(x) without showing it in the standard error. Any r that is positive
everywhere gives p(x) in expectation.

The paper prints the formula without its minus sign. -log of a mean overestimates: the value is an
upper bound in expectation, and the tighter the more samples.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dpvae_cli.data import Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.evaluation.nll_cache import ImportanceEstimate, cache_key
from dpvae_cli.evaluation.proposal import PROPOSAL, Proposal, fit_posteriors, log_prior
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Examples, PerExample
from dpvae_cli.mathematics.estimates import error_terms_of_mean
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import batch_size_for, encode, reconstruction

BITS_NOTE = "8-bit data in [0, 1] without dequantisation"
FEW = 50
"""A median effective sample size below it is warned of."""
DRAWN = 1_024
"""Importance samples of an example that are drawn together, however many are decoded together."""


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
