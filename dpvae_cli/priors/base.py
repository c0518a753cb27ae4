"""What a prior and its spec must offer."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.mathematics.gaussian import DiagonalGaussian


class Prior(nn.Module, ABC):
    """p(z), tied to a standard normal generation space z0 by a bijection.

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

    @abstractmethod
    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of p(z), `(n, latent)`; gradients reach the prior's parameters."""

    @abstractmethod
    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return KL[q(z|x), p(z)] of each example in nats, constants included.

        The entropy of q(z|x) is in closed form. E_q[log p(z)] is in closed form where the prior
        has one, else estimated from the one draw `z` of the posterior.
        """

    @abstractmethod
    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats."""

    @abstractmethod
    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats."""


class PriorSpec(Spec, ABC):
    """A recipe's `prior` section."""

    @abstractmethod
    def complaint(self, latent_dim: int) -> str | None:
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
        """
