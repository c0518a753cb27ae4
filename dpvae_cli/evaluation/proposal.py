"""What nll draws codes from: the encoder's posterior and one fitted to the example, half each.

The encoder's posterior alone misses mass where it is narrower than the true one or beside it. The
fitted Gaussian finds that mass, and the encoder's half keeps every weight below twice what it would
be with the encoder alone, so the effective sample size is halved at worst.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from dpvae_cli.foundation.memory import map_in_chunks
from dpvae_cli.foundation.randomness import normal_noise
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.sampling.samples import check_log_density, reconstruction

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
