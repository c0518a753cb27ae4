"""Negative log-likelihood of held-out examples by importance sampling (paper, section 5.1).

log p(x) ~ log 1/S sum_s w_s,  w_s = p(x|z_s) p(z_s) / q(z_s|x),  z_s ~ q(z|x).

The paper prints the formula without its minus sign. -log of a mean overestimates: the value is an
upper bound in expectation, and the tighter the more samples.
"""

import math

import torch
from torch import Tensor

from dpvae_cli.evaluation.finished import ImportanceEstimate, key_of
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.results import Result
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE

CHUNK = 4_096
BITS_NOTE = "8-bit data in [0, 1] without dequantisation"


@torch.no_grad()
def negative_log_likelihood(
    model: VAE, x: Examples, *, samples: int, generator: torch.Generator
) -> ImportanceEstimate:
    """Estimate -log p(x) of one example in nats.

    Source: Rezende et al. 2014, appendix E; paper, section 5.1 (21,000 samples).

    Args:
        model: the trained model.
        x: one example, `(1, *example)`.
        samples: importance samples S.
        generator: on the model's device.
    """
    posterior = model.encode(x)
    log_weights = []
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        z = posterior.sample(count, generator=generator).squeeze(1)
        repeated = x.expand(count, *x.shape[1:])
        log_joint = -model.reconstruction(repeated, z) + model.prior.log_prob(z)
        log_weights.append((log_joint - posterior.log_prob(z)).double())
    return _summarise(torch.cat(log_weights))


def _summarise(log_weights: Tensor) -> ImportanceEstimate:
    samples = len(log_weights)
    log_total = torch.logsumexp(log_weights, dim=0)
    share = torch.exp(log_weights - log_total)
    effective = 1 / float(share.square().sum())
    relative_variance = max(samples * float(share.square().sum()) - 1, 0.0)
    error = math.sqrt(relative_variance / samples)
    return ImportanceEstimate(float(math.log(samples) - log_total), error, effective)


def nll(subject: Subject) -> list[Result]:
    """Measure the mean -log p(x) over held-out examples, from the start of the split.

    Finished examples are kept, so that an interrupted measurement goes on with the same numbers.
    """
    evaluation = subject.evaluation
    count = min(evaluation.nll_images, len(subject.dataset.split(evaluation.split)))
    found = []
    with subject.finished.opened():
        for index in range(count):
            found.append(_estimate(subject, index))
            subject.progress("nll", index + 1, count)
    return [_result(subject, found)]


def _estimate(subject: Subject, index: int) -> ImportanceEstimate:
    """Return the estimate of one example, from the file or by drawing."""
    evaluation, model = subject.evaluation, subject.model
    x = subject.dataset.split(evaluation.split).examples(slice(index, index + 1))
    samples, seed = evaluation.nll_samples, subject.seed
    key = key_of(x, evaluation.split, index, samples, seed, model.device.type)
    estimate = subject.finished.get(key)
    if estimate is None:
        generator = stream(seed, "nll", index, device=model.device)
        estimate = negative_log_likelihood(
            model, x.to(model.device, model.dtype), samples=samples, generator=generator
        )
        subject.finished.add(key, estimate)
    return estimate


def _result(subject: Subject, found: list[ImportanceEstimate]) -> Result:
    evaluation, count = subject.evaluation, len(found)
    values = torch.tensor([estimate.nll for estimate in found], dtype=torch.float64)
    mean = float(values.mean())
    over_samples = math.sqrt(sum(e.standard_error**2 for e in found)) / count
    effective = sorted(estimate.effective_samples for estimate in found)
    dimensions = math.prod(subject.model.example_shape)
    bits = subject.model.likelihood.bits_per_dimension(
        mean, dimensions, eight_bit=subject.dataset.eight_bit
    )
    details = {
        "images": count,
        "images_in_split": len(subject.dataset.split(evaluation.split)),
        "standard_error_over_images": float(values.std()) / math.sqrt(count),
        "standard_error_over_importance_samples": over_samples,
        "effective_samples_median": effective[count // 2],
        "effective_samples_minimum": effective[0],
        "bits_per_dimension": bits,
        "bits_per_dimension_note": BITS_NOTE if subject.dataset.eight_bit and bits else None,
        "data_note": subject.dataset.note,
    }
    return Result(
        metric="nll",
        value=mean,
        standard_error=float(values.std()) / math.sqrt(count),
        unit="nats per example",
        samples=evaluation.nll_samples,
        seed=subject.seed,
        split=evaluation.split,
        details=details,
    )
