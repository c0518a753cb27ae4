"""Leakage score: how much of q(z) lies where the prior hardly reaches (paper, equation (6)).

LS(tau) = E_{z ~ q(z)}[ 1{log p(z) < tau} (log q(z) - log p(z)) ]

The mean is over all samples, not only those below tau. Equation (6) prints p(h(z)) = N(g(z); 0, I)
in the ratio and so leaves the Jacobian out; `leak` uses p(z) in condition and ratio, `leak_printed`
has the ratio as printed. log p(z) shifts with the free scale of z under a learned prior, so
comparisons between priors quote the thresholds at quantiles of log p(z) under z ~ p.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.sampling.samples import from_codes, prior_samples

HEADLINE = 0.05


def leakage_score(
    log_q: Tensor, log_p: Tensor, *, threshold: float, log_p_ratio: Tensor | None = None
) -> tuple[float, float] | None:
    """Return LS(threshold) in nats with its standard error, or None where no sample lies below.

    Args:
        log_q: log q(z) of samples of q(z).
        log_p: log p(z) of the same samples, for the condition.
        threshold: tau, in nats.
        log_p_ratio: log-density in the ratio; None takes `log_p`.
    """
    below = log_p < threshold
    if not bool(below.any()):
        return None
    ratio = log_q - (log_p if log_p_ratio is None else log_p_ratio)
    return mean_and_error(torch.where(below, ratio, torch.zeros_like(ratio)))


def leak(subject: Subject) -> list[Result]:
    """Measure the leakage curve, with p(z) throughout and, where there is a z0, as printed."""
    model, evaluation = subject.model, subject.evaluation
    generator = subject.generator("leak")
    codes = subject.aggregate.sample(evaluation.samples, generator=generator)
    drawn = from_codes(model, codes).with_log_q(subject.aggregate)
    prior = prior_samples(model, evaluation.samples, generator=generator)
    levels = torch.tensor(evaluation.quantiles, dtype=torch.float64)
    quantiles = torch.quantile(prior.log_p.double(), levels).tolist()
    assert drawn.log_q is not None
    densities = {"log_q": drawn.log_q, "log_p": drawn.log_p.double()}
    results = [_result(subject, "leak", densities, quantiles)]
    if drawn.log_p_generation is not None:
        printed = densities | {"log_p_ratio": drawn.log_p_generation.double()}
        results.append(_result(subject, "leak_printed", printed, quantiles))
    return results


def _result(
    subject: Subject, metric: str, densities: dict[str, Tensor], quantiles: list[float]
) -> Result:
    evaluation = subject.evaluation
    by_threshold = _curve(densities, evaluation.thresholds)
    by_quantile = _curve(densities, quantiles)
    at = min(
        range(len(quantiles)), key=lambda i: abs(evaluation.quantiles[i] - HEADLINE), default=None
    )
    details = {
        "value_at_quantile": None if at is None else evaluation.quantiles[at],
        "thresholds": list(evaluation.thresholds),
        **by_threshold,
        "quantiles": list(evaluation.quantiles),
        "quantile_thresholds": quantiles,
        **{f"quantile_{name}": column for name, column in by_quantile.items()},
    }
    return Result(
        metric=metric,
        value=None if at is None else by_quantile["values"][at],
        standard_error=None if at is None else by_quantile["standard_errors"][at],
        unit="nats",
        samples=evaluation.samples,
        seed=subject.seed,
        split="train",
        details=details,
    )


def _curve(densities: dict[str, Tensor], thresholds: Sequence[float]) -> dict[str, list[Any]]:
    """Return values, standard errors and the share of samples below each threshold."""
    found = [leakage_score(**densities, threshold=threshold) for threshold in thresholds]
    log_p = densities["log_p"]
    return {
        "values": [None if score is None else score[0] for score in found],
        "standard_errors": [None if score is None else score[1] for score in found],
        "shares_below": [float((log_p < t).double().mean()) for t in thresholds],
    }
