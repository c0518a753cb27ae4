"""What the mean KL of the training data is made of.

E[log q(z|x) - log p(z)] = I(z;n) + KL[q(z), p(z)], and where p(z) factorises
KL[q(z), p(z)] = TC + sum_l KL[q(z_l), p(z_l)]. Source: Hoffman and Johnson 2016; Chen et al. 2018,
equation (2).
"""

from typing import NamedTuple, final

import torch

from dpvae_cli.evaluation.context import Progress
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.shapes import PerExample
from dpvae_cli.mathematics.aggregate_posterior import AggregatePosterior
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import from_codes

CHUNK = 500


@final
class KlDecomposition(NamedTuple):
    """Terms in nats, one number per draw of q(z), float64.

    `dimension_wise_kl` is log prod_l q(z_l) - log p(z); only where p(z) factorises is its mean a
    sum of divergences.
    """

    kl: PerExample
    mutual_information: PerExample
    total_correlation: PerExample
    dimension_wise_kl: PerExample

    @property
    def marginal_kl(self) -> PerExample:
        """Return log q(z) - log p(z)."""
        return self.total_correlation + self.dimension_wise_kl

    def terms(self) -> dict[str, PerExample]:
        """Return every term by name, `marginal_kl` too."""
        return {**self._asdict(), "marginal_kl": self.marginal_kl}


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
    return KlDecomposition(
        kl=conditional - log_p,
        mutual_information=conditional - joint,
        total_correlation=joint - product,
        dimension_wise_kl=product - log_p,
    )
