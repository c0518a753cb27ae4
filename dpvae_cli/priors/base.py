"""What a prior and its spec must offer."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, final

import torch
from torch import nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.mathematics.gaussian import DiagonalGaussian

WITH_Z0 = "standard_normal, decoupled, spline or autoregressive"
"""Kinds with a generation space, as an error names them."""


@final
class LogNormaliser(NamedTuple):
    """An estimated log Z that every log p(z) of a prior contains, in nats."""

    value: float
    standard_error: float
    draws: int


class Prior(nn.Module, ABC):
    """p(z), where a bijection exists tied by it to a generation space z0.

    `log_prob` and `sample` return one tensor; `to_generation` and `to_representation` return
    `(value, log_abs_det)` of the map applied, and the two log-determinants sum to zero.
    """

    spec: "PriorSpec | None" = None
    """The recipe section it is built from; None where it was put together by hand."""

    @property
    @abstractmethod
    def latent_dim(self) -> int:
        """Return L, the number of dimensions of z."""

    @property
    @abstractmethod
    def factorises(self) -> bool:
        """Tell whether p(z) is the product of its marginals."""

    @property
    @abstractmethod
    def generation(self) -> "Prior | None":
        """Return the density of z0 = g(z); None where no bijection ties z to a z0."""

    @property
    @abstractmethod
    def log_normaliser(self) -> LogNormaliser | None:
        """Return the estimate that log p(z) contains; None where the density is exact."""

    @abstractmethod
    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of p(z), `(n, latent)`.

        Gradients reach the parameters that move a sample; choices, of a mixture's component or of
        what is rejected, have none. The generator may be on the CPU wherever the prior is.
        """

    @abstractmethod
    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return KL[q(z|x), p(z)] of each example in nats, constants included.

        The entropy of q(z|x) is in closed form. E_q[log p(z)] is in closed form where the prior
        has one, else estimated from the one draw `z` of the posterior.
        """

    @abstractmethod
    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats.

        Raises:
            UsageError: there is no z0.
        """

    @abstractmethod
    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats.

        Raises:
            UsageError: there is no z0.
        """

    def require_generation(self) -> "Prior":
        """Return the density of z0, for what cannot do without.

        Raises:
            UsageError: there is no z0.
        """
        if self.generation is None:
            raise _no_generation_error(self)
        return self.generation


class NonFlowPrior(Prior, ABC):
    """A prior on z alone: no bijection ties it to a generation space."""

    generation = None

    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return -H[q(z|x)] - log p(z) at the one draw `z`, in nats."""
        return -posterior.entropy() - self.log_prob(z)

    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Refuse: there is no z0."""
        raise _no_generation_error(self)

    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Refuse: there is no z0."""
        raise _no_generation_error(self)


def _no_generation_error(prior: Prior) -> UsageError:
    """Return the error that a prior has no generation space."""
    name = type(prior).__name__ if prior.spec is None else f"{prior.spec.kind} prior"
    return UsageError(
        f"the {name} has no generation space: no bijection ties its z to a z0",
        hint=f"Stay in z (--space z, --rank representation); prior={WITH_Z0} has a z0.",
    )


class PriorSpec(Spec, ABC):
    """A recipe's `prior` section."""

    kind: str
    has_generation: ClassVar[bool]
    """Whether the priors it builds have a generation space z0."""
    needs_encoder: ClassVar[bool] = False
    """Whether the priors it builds are made of the VAE's encoder."""

    @abstractmethod
    def validation_error(self, latent_dim: int) -> str | None:
        """Say why this prior does not fit `latent_dim` dimensions, or return None."""

    @abstractmethod
    def build(
        self,
        latent_dim: int,
        encoder: nn.Module | None = None,
        example_shape: tuple[int, ...] | None = None,
    ) -> Prior:
        """Return an untrained prior that knows its `spec`.

        Most kinds ignore the encoder and the example shape, which may not be known.

        Raises:
            UsageError: this kind needs one that is not there.
        """
