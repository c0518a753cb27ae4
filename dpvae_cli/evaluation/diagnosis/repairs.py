"""Other priors, fitted quickly to a model's codes: what each of them would mend."""

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dpvae_cli.evaluation.diagnosis.draws import part
from dpvae_cli.evaluation.diagnosis.quantities import share_in_tail
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
    unseen, q = part(aggregate, order[:held]), part(aggregate, order[held:][:codes])
    noise = torch.randn(unseen.mean.shape, generator=generator, dtype=torch.float64)
    fresh = unseen.mean.cpu() + torch.exp(0.5 * unseen.log_variance).cpu() * noise
    for index, (name, fitting) in enumerate(kinds.items()):
        subject.progress("diagnosis: priors tried", index, len(kinds))
        try:
            yield _try(subject, name, q, fresh, old.log_prob(fresh), fitting)
        except DpvaeError as error:
            yield f"{name} was not tried: {error}"
    subject.progress("diagnosis: priors tried", len(kinds), len(kinds))


def _try(
    subject: Subject,
    name: str,
    q: AggregatePosterior,
    fresh: Tensor,
    log_p: Tensor,
    fitting: Fitting,
) -> Repair:
    """Fit one prior and measure what it gains on the held-out codes."""
    start = time.perf_counter()
    fitted = fit_prior(
        q.mean.float(), q.log_variance.float(), name, fitting=fitting, seed=subject.seed
    )
    side = of_prior(fitted.prior)
    z = side.draw(len(fresh), subject.generator("diagnosis", name))
    gain = mean_and_error(side.log_prob(fresh) - log_p)
    return Repair(
        prior=name,
        gain=gain.value,
        standard_error=gain.standard_error,
        held_out=len(fresh),
        pocket_share=share_in_tail(q.log_prob(z), of=q.log_prob(fresh)),
        leak_share=share_in_tail(side.log_prob(fresh), of=side.log_prob(z)),
        seconds=time.perf_counter() - start,
    )
