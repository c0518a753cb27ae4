"""What a prior and its spec must offer."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, final

import torch
from torch import nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import CodeLabels, Codes, PerExample
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.mathematics.gaussian import DiagonalGaussian


@final
class LogDetEstimate(NamedTuple):
    """How far the log-determinants of a prior may be off that are estimated, in nats.

    `standard_error` is the root mean square of their standard errors over the prior's samples.
    """

    standard_error: float
    probes: int


@final
class LogNormaliser(NamedTuple):
    """An estimated log Z that every log p(z) of a prior contains, in nats."""

    value: float
    standard_error: float
    draws: int


class Prior(nn.Module, ABC):
    """p(z), tied to a generation space z0 where there is a bijection.

    `log_prob` and `sample` return one tensor; `to_generation` and `to_representation` return
    `(value, log_abs_det)` of the map applied, and the two log-determinants sum to zero.

    Args:
        latent_dim: L, the number of dimensions of z.
    """

    spec: "PriorSpec | None" = None
    """The recipe section it is built from; None where it was put together by hand."""
    factorises: bool = False
    """Whether p(z) is the product of its marginals."""
    labels: tuple[int, ...] = ()
    """The labels that `given` takes; none where p(z) knows none."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @property
    def generation(self) -> "Prior | None":
        """Return the density of z0 = g(z); None where no bijection ties z to a z0."""
        return None

    @property
    def log_normaliser(self) -> LogNormaliser | None:
        """Return the estimate that log p(z) contains; None where the density is exact."""
        return None

    @property
    def log_det_estimate(self) -> LogDetEstimate | None:
        """Return the error of estimated log-determinants; None where they are exact."""
        return None

    @abstractmethod
    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points of p(z), `(n, latent)`.

        Gradients reach the parameters that move a sample; choices, of a mixture's component or of
        what is rejected, have none. The generator may be on the CPU wherever the prior is.
        """

    def kl(self, posterior: DiagonalGaussian, z: Codes) -> PerExample:
        """Return KL[q(z|x), p(z)] of each example in nats, constants included.

        The entropy of q(z|x) is in closed form. E_q[log p(z)] is in closed form where the prior
        has one, else estimated from the one draw `z` of the posterior.
        """
        return -posterior.entropy() - self.log_prob(z)

    def given(self, label: int) -> "Prior":
        """Return p(z | label).

        Raises:
            UsageError: there is no such label.
        """
        if label not in self.labels:
            raise UsageError(
                f"the prior knows the labels {', '.join(map(str, self.labels))}, and not {label}"
                if self.labels
                else "the prior knows no labels: it was not fitted given any",
                hint="Fit one to a run whose data has labels: dpvae fit-prior --given label.",
            )
        return self._given(label)

    def _given(self, label: int) -> "Prior":
        raise NotImplementedError

    def fitting_loss(
        self,
        z: Codes,
        *,
        labels: CodeLabels | None = None,
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """Return what a fit to fixed codes minimises: -log p(z) of each row, in nats.

        Priors that learn by another loss (`PriorSpec.fitting_loss`) return that one; the generator
        is of its noise. Only priors that know labels need those of the rows.
        """
        del labels, generator
        return -self.log_prob(z)

    def to_generation(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats.

        Raises:
            UsageError: there is no z0.
        """
        raise self._no_generation_error()

    def to_representation(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats.

        Raises:
            UsageError: there is no z0.
        """
        raise self._no_generation_error()

    def points(self, z0: Codes) -> Codes:
        """Return z = g^-1(z0) alone, which can cost a fraction of `to_representation`.

        Raises:
            UsageError: there is no z0.
        """
        return self.to_representation(z0)[0]

    def require_generation(self) -> "Prior":
        """Return the density of z0.

        Raises:
            UsageError: there is no z0.
        """
        if self.generation is None:
            raise self._no_generation_error()
        return self.generation

    def _no_generation_error(self) -> UsageError:
        name = type(self).__name__ if self.spec is None else f"{self.spec.kind} prior"
        return UsageError(
            f"the {name} has no generation space: no bijection ties its z to a z0",
            hint="Stay in z (--space z, --rank representation); "
            f"prior={' or '.join(kinds_with_generation())} has a z0.",
        )


class PriorSpec(Spec, ABC):
    """A recipe's `prior` section."""

    kind: str
    has_generation: ClassVar[bool]
    """Whether the priors it builds have a generation space z0."""
    post_hoc_reason: ClassVar[str | None] = None
    """Why the priors it builds cannot be trained with a VAE; None where they can."""
    takes_labels: ClassVar[bool] = False
    """Whether the priors it builds can be given a label."""
    needs_encoder: ClassVar[bool] = False
    """Whether the priors it builds are made of the VAE's encoder."""
    fitting_loss: ClassVar[str] = "nll"
    """What a fit minimises: `nll` is -log p(z), in nats; others have no unit."""

    def validation_error(self, latent_dim: int) -> str | None:
        """Say why this prior does not fit `latent_dim` dimensions, or return None."""
        return None

    @final
    def build(
        self,
        latent_dim: int,
        encoder: nn.Module | None = None,
        example_shape: tuple[int, ...] | None = None,
        *,
        context: int = 0,
    ) -> Prior:
        """Return an untrained prior that knows its `spec`.

        Most kinds ignore the encoder and the shape of an example, which may not be known. With
        `context` its bijection takes that many entries beside z (`priors/class_conditional.py`).

        Raises:
            UsageError: this kind needs one that is not there, or takes no context.
        """
        if context and not self.takes_labels:
            takers = [spec for spec in PriorSpec.__subclasses__() if spec.takes_labels]
            kinds = sorted(spec.model_fields["kind"].default for spec in takers)
            raise UsageError(
                f"a {self.kind} prior cannot be given a label", hint=f"Use {' or '.join(kinds)}."
            )
        prior = self._build(latent_dim, encoder, example_shape, context)
        prior.spec = self
        return prior

    @abstractmethod
    def _build(
        self,
        latent_dim: int,
        encoder: nn.Module | None,
        example_shape: tuple[int, ...] | None,
        context: int,
        /,
    ) -> Prior:
        """Return an untrained prior; kinds that ignore the rest take `*_`."""


def kinds_with_generation() -> list[str]:
    """Return the kinds of priors with a generation space."""
    specs = [spec for spec in PriorSpec.__subclasses__() if spec.has_generation]
    return sorted(spec.model_fields["kind"].default for spec in specs)
