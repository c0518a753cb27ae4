"""A prior in units of its own: a fixed affine layer between it and the codes."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.shapes import CodeLabels, Codes, PerExample
from dpvae_cli.priors.base import LogDetEstimate, LogNormaliser, Prior


@final
class StandardizedPrior(Prior):
    """p(z) = p_s((z - mean) / deviation) / prod over l of deviation_l, p_s another prior.

    `mean` and `deviation` are those of the codes that p_s is fitted to. They are buffers: part of
    the state, and never learned. Sizes of initial weights, bounds and learning rates are those of
    codes with mean 0 and deviation 1, so a fit in these units is the same whatever unit the codes
    come in.

    Args:
        prior: p_s, the density of standardised codes.
        mean: `(latent,)`; by default 0.
        deviation: `(latent,)`, positive; by default 1.

    Example:
        >>> from dpvae_cli.priors.mixture import MixturePrior
        >>> inner = MixturePrior(2, 5)
        >>> prior = StandardizedPrior(inner, torch.tensor([50.0, 0.0]), torch.tensor([0.1, 1.0]))
        >>> prior.sample(4).shape
        torch.Size([4, 2])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        prior: Prior,
        mean: Float[Tensor, " latent"] | None = None,
        deviation: Float[Tensor, " latent"] | None = None,
    ) -> None:
        super().__init__(prior.latent_dim)
        self.prior, self.spec, self.factorises = prior, prior.spec, prior.factorises
        self.labels = prior.labels
        self.register_buffer("mean", torch.zeros(prior.latent_dim) if mean is None else mean)
        self.register_buffer(
            "deviation", torch.ones(prior.latent_dim) if deviation is None else deviation
        )

    @property
    def generation(self) -> Prior | None:
        """Return the density of p_s's z0."""
        return self.prior.generation

    @property
    def log_normaliser(self) -> LogNormaliser | None:
        """Return p_s's."""
        return self.prior.log_normaliser

    @property
    def log_det_estimate(self) -> LogDetEstimate | None:
        """Return p_s's."""
        return self.prior.log_det_estimate

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""
        return self.prior.log_prob(self._standardize(z)) - self._log_deviation()

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of p_s and take them to the units of codes."""
        return self.mean + self.deviation * self.prior.sample(n, generator=generator)

    def fitting_loss(
        self,
        z: Codes,
        *,
        labels: CodeLabels | None = None,
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """Return p_s's at the standardised codes; -log p(z) with the log-deviations."""
        loss = self.prior.fitting_loss(self._standardize(z), labels=labels, generator=generator)
        is_nll = self.spec is None or self.spec.fitting_loss == "nll"
        return loss + self._log_deviation() if is_nll else loss

    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g((z - mean) / deviation) and log|det dz0/dz| in nats."""
        z0, log_abs_det = self.prior.to_generation(self._standardize(z))
        return z0, log_abs_det - self._log_deviation()

    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = mean + deviation g^-1(z0) and log|det dz/dz0| in nats."""
        standardized, log_abs_det = self.prior.to_representation(z0)
        return self.mean + self.deviation * standardized, log_abs_det + self._log_deviation()

    def points(self, z0: Codes) -> Codes:
        """Return z = mean + deviation g^-1(z0)."""
        return self.mean + self.deviation * self.prior.points(z0)

    def _given(self, label: int) -> Prior:
        return StandardizedPrior(self.prior.given(label), self.mean, self.deviation)

    def _standardize(self, z: Codes) -> Codes:
        # in floating point the difference of numbers within a factor of two is exact
        return (z - self.mean) / self.deviation

    def _log_deviation(self) -> Tensor:
        return self.deviation.log().sum()
