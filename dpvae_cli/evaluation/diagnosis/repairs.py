"""Other priors, fitted quickly to a model's codes: what each of them would mend."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dpvae_cli.evaluation.diagnosis.null import part
from dpvae_cli.evaluation.diagnosis.quantities import Split, drawn, measured
from dpvae_cli.evaluation.diagnosis.record import Repair
from dpvae_cli.evaluation.diagnosis.sides import Side, of_prior
from dpvae_cli.evaluation.subject import Subject
from dpvae_cli.fitting.fit import fit_prior
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.estimates import mean_and_error
from dpvae_cli.recipe import Fitting

HELD_OUT = 0.25
"""Share of the codes that the gain is measured on; no fit sees them."""


def tried(
    subject: Subject, old: Side, kinds: Mapping[str, Fitting], *, codes: int
) -> Iterator[Repair | str]:
    """Fit priors to part of the codes and measure each on the rest.

    Args:
        subject: the model with its codes.
        old: its prior.
        kinds: of priors, in their defaults, and how long to fit each; briefly, for this is a try.
        codes: the most codes that are fitted to, and a fourth of it the most that measure.

    Yields:
        A repair for each kind, or why it is none.
    """
    aggregate = subject.aggregate
    generator = subject.generator("diagnosis", "repairs")
    order = torch.randperm(len(aggregate), generator=generator)
    held = min(int(HELD_OUT * len(order)), codes // 4)
    at = _held_out(part(aggregate, order[:held]), part(aggregate, order[held:][:codes]), generator)
    log_p = old.log_prob(at.fresh)
    for index, (name, fitting) in enumerate(kinds.items()):
        subject.progress("diagnosis: priors tried", index, len(kinds))
        try:
            yield _try(subject, name, at, log_p, fitting)
        except DpvaeError as error:
            yield f"{name} was not tried: {error}"
    subject.progress("diagnosis: priors tried", len(kinds), len(kinds))


def _held_out(
    unseen: AggregatePosterior, q: AggregatePosterior, generator: torch.Generator
) -> Split:
    """Return the codes to fit to as q(z), and one fresh code of each held-out example."""
    noise = torch.randn(unseen.mean.shape, generator=generator, dtype=torch.float64)
    scale = torch.exp(0.5 * unseen.log_variance).cpu()
    fresh, own = unseen.mean.cpu() + scale * noise, q.sample(len(unseen), generator=generator)
    return Split(unseen, q, fresh, q.log_prob(fresh), own, q.log_prob(own))


def _try(subject: Subject, name: str, at: Split, log_p: Tensor, fitting: Fitting) -> Repair:
    """Fit one prior and measure what it gains on the held-out codes."""
    start = time.perf_counter()
    fitted = fit_prior(
        at.q.mean.float(), at.q.log_variance.float(), name, fitting=fitting, seed=subject.seed
    )
    new = drawn(of_prior(fitted.prior), at, generator=subject.generator("diagnosis", name))
    gain = mean_and_error(new.fresh_log_p - log_p)
    found = measured(new, at)
    return Repair(
        prior=name,
        gain=gain.value,
        standard_error=gain.standard_error,
        held_out=len(at.fresh),
        pocket_share=found.pocket_share,
        leak_share=found.leak_share,
        seconds=time.perf_counter() - start,
    )
