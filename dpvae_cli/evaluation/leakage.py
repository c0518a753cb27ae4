"""Leakage score: how much of q(z) lies where the prior hardly reaches (paper, equation (6)).

LS(tau) = E_{z ~ q(z)}[ 1{log p(z) < tau} (log q(z) - log p(z)) ]

The mean is over all samples, not only those below tau. Equation (6) prints p(h(z)) = N(g(z); 0, I)
in the ratio and so leaves the Jacobian out; `leak` uses p(z) in condition and ratio, `leak_printed`
has the ratio as printed. log p(z) shifts with the free scale of z under a learned prior, so
comparisons between priors quote the thresholds at quantiles of log p(z) under z ~ p.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.foundation.results import Result
from dpvae_cli.mathematics.estimates import EstimateWithTerms, error_terms_of_mean
from dpvae_cli.sampling.samples import from_codes, prior_samples

HEADLINE = 0.05


@final
@dataclass(frozen=True)
class LeakageScore(EstimateWithTerms):
    """LS(threshold) in nats; at a quantile the error has that of the quantile itself."""

    threshold: float
    share_below: float


def leakage_score(
    log_q: Tensor, log_p: Tensor, *, threshold: float, log_p_ratio: Tensor | None = None
) -> LeakageScore:
    """Return LS(threshold) at a fixed threshold; zero with an error of zero if no sample is below.

    `log_q` and `log_p` are of samples of q(z), in nats, `log_p` for the condition; `log_p_ratio` is
    the density in the ratio, `log_p` where it is None.
    """
    below = ~(log_p >= threshold)  # NaN counts as below
    ratio = log_q - (log_p if log_p_ratio is None else log_p_ratio)
    terms = torch.where(below, ratio, torch.zeros_like(ratio)).double()
    share = float(below.double().mean())
    return LeakageScore(float(terms.mean()), error_terms_of_mean(terms), threshold, share)


def leakage_score_at_quantile(
    log_q: Tensor,
    log_p: Tensor,
    prior_log_p: Tensor,
    *,
    level: float,
    log_p_ratio: Tensor | None = None,
) -> LeakageScore:
    """Return LS at a quantile of log p(z), itself estimated from samples of p(z).

    The error has two independent parts: that of the mean at this threshold, and that of the
    threshold. m draws of p(z) put a quantile of level a as far off as its level is,
    d = sqrt(a (1 - a) / m); the score moves by half of LS(a + d) - LS(a - d) over it.
    `prior_log_p` is of samples of p(z), the rest as in `leakage_score`.

    Source: Woodruff 1952, for the interval of a quantile.
    """
    m = len(prior_log_p)
    spread = math.sqrt(level * (1 - level) / m)
    levels = torch.tensor([level, level - spread, level + spread], dtype=torch.float64).clamp(0, 1)
    found, lower, upper = (
        leakage_score(log_q, log_p, threshold=threshold, log_p_ratio=log_p_ratio)
        for threshold in torch.quantile(prior_log_p.double(), levels).tolist()
    )
    is_below = (prior_log_p < found.threshold).double()
    # scaled to a norm of half the difference, with opposite signs below and above the quantile
    of_quantile = -error_terms_of_mean(is_below) * (upper.value - lower.value) / (2 * spread)
    return replace(found, error_terms=torch.cat([found.error_terms, of_quantile]))


def leak(context: EvaluationContext) -> list[Result]:
    """Measure the leakage curve, with p(z) throughout and, where there is a z0, as printed."""
    model, samples = context.model, context.evaluation.samples
    generator = context.generator("leak")
    codes = from_codes(model, context.aggregate.sample(samples, generator=generator))
    codes = codes.with_log_q(context.aggregate)
    prior = prior_samples(model, samples, generator=generator)
    assert codes.log_q is not None
    densities = {"log_q": codes.log_q, "log_p": codes.log_p.double()}
    results = [_curve_result(context, "leak", densities, prior.log_p)]
    if codes.log_p_generation is not None:
        printed = densities | {"log_p_ratio": codes.log_p_generation.double()}
        results.append(_curve_result(context, "leak_printed", printed, prior.log_p))
    return results


def _curve_result(
    context: EvaluationContext, name: str, densities: dict[str, Tensor], prior_log_p: Tensor
) -> Result:
    """Return the curve over thresholds and quantiles; its value is that at the 5 % quantile."""
    thresholds, quantiles = context.evaluation.thresholds, context.evaluation.quantiles
    fixed = [leakage_score(**densities, threshold=tau) for tau in thresholds]
    at_quantiles = {
        level: leakage_score_at_quantile(**densities, prior_log_p=prior_log_p, level=level)
        for level in quantiles
    }
    level = min(quantiles, key=lambda level: abs(level - HEADLINE), default=None)
    headline = None if level is None else at_quantiles[level]
    defined = headline if headline and headline.share_below > 0 else None
    scores = list(at_quantiles.values())
    error_terms = {"values": _columns(fixed), "quantile_values": _columns(scores)}
    details: dict[str, Any] = {
        "value_at_quantile": level,
        "thresholds": list(thresholds),
        **_curve(fixed),
        "quantiles": list(quantiles),
        "quantile_thresholds": [score.threshold for score in scores],
        **{f"quantile_{key}": column for key, column in _curve(scores).items()},
    }
    return context.result(
        name,
        defined and defined.value,
        defined and defined.standard_error,
        split="train",
        error_terms=error_terms | ({} if headline is None else {"value": headline.error_terms}),
        **details,
    )


def _curve(scores: Sequence[LeakageScore]) -> dict[str, list[Any]]:
    """Return values, standard errors and the share of samples below each threshold."""
    defined = [score if score.share_below > 0 else None for score in scores]
    return {
        "values": [score and score.value for score in defined],
        "standard_errors": [score and score.standard_error for score in defined],
        "shares_below": [score.share_below for score in scores],
    }


def _columns(scores: Sequence[LeakageScore]) -> Float[Tensor, "terms scores"]:
    terms = [score.error_terms for score in scores]
    return torch.stack(terms, dim=1) if terms else torch.zeros(0, 0)
