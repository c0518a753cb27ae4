"""A prior whose bijection follows a velocity field that is learned by regression."""

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import CodeLabels, Codes, PerExample
from dpvae_cli.mathematics.flow_matching import VelocityFlow
from dpvae_cli.priors.base import LogDetEstimate, PriorSpec
from dpvae_cli.priors.decoupled import DecoupledPrior
from dpvae_cli.priors.standard_normal import StandardNormalPrior

ERROR_SAMPLES = 256
"""Samples that the error of an estimated log-determinant is measured on."""


@final
class FlowMatchingPrior(DecoupledPrior):
    """p(z) = N(g(z); 0, I) |det dg/dz|, g an ordinary differential equation (Lipman et al. 2023).

    Args:
        bijection: g, from z to z0.
        base: the density of z0.

    Example:
        >>> prior = FlowMatching().build(2)
        >>> prior.sample(4).shape
        torch.Size([4, 2])
    """

    bijection: VelocityFlow

    @property
    def log_det_estimate(self) -> LogDetEstimate | None:
        """Return how far log|det| may be off where the trace is estimated; None where exact."""
        if self.bijection.is_exact:
            return None
        z0 = self.base.sample(ERROR_SAMPLES, generator=stream(0, "flow matching", "error"))
        squared = self.bijection.log_det_error(z0).square().mean()
        return LogDetEstimate(float(squared.sqrt()), len(self.bijection.directions))

    def fitting_loss(
        self,
        z: Codes,
        *,
        labels: CodeLabels | None = None,
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """Return the squared error of the velocity at a random time of each code's path."""
        del labels
        return self.bijection.matching_loss(z, generator=generator)

    def points(self, z0: Codes) -> Codes:
        """Return z = g^-1(z0) without the integral of its trace."""
        return self.bijection.points(z0)


@final
class FlowMatching(PriorSpec):
    """z0 ~ N(0, I), z = g^-1(z0), g a flow along learned velocities (Lipman et al. 2023).

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> quick = dpvae.Fitting(iterations=20)
        >>> fitted = dpvae.fit_prior(torch.randn(500, 2), prior=dpvae.FlowMatching(), fitting=quick)
        >>> fitted.sample(4).shape
        torch.Size([4, 2])
    """

    kind: Literal["flow_matching"] = "flow_matching"
    has_generation: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    fitting_loss: ClassVar[str] = "velocity_error"
    post_hoc_reason: ClassVar[str | None] = (
        "flow matching learns velocities by regression on codes that stay as they are, and its "
        "log p(z) in the ELBO would integrate an equation in every step"
    )
    hidden: Annotated[int, Field(ge=1)] = 64
    """Width of the network."""
    blocks: Annotated[int, Field(ge=1, le=256)] = 2
    """Residual blocks of two layers."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Steps of the Runge-Kutta method of order four between z0 and z."""

    def _build(
        self, latent_dim: int, _encoder: object, _shape: object, context: int, /
    ) -> FlowMatchingPrior:
        bijection = VelocityFlow(
            latent_dim, hidden=self.hidden, blocks=self.blocks, steps=self.steps, context=context
        )
        return FlowMatchingPrior(bijection, StandardNormalPrior(latent_dim))
