"""The VampPrior: the encoder's own posteriors at learned pseudo-inputs."""

import math
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import nn

from dpvae_cli.foundation.devices import eval_mode
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.foundation.spec import Interval
from dpvae_cli.mathematics.gaussian import mean_and_log_variance
from dpvae_cli.mathematics.mixture import GaussianMixture
from dpvae_cli.priors.base import Prior, PriorSpec


@final
class VampPrior(Prior):
    """p(z) = 1/K sum over k of q(z|u_k), with K learned pseudo-inputs u_k in data space.

    The encoder sees them in evaluation mode, whatever mode it is in itself: with batch norm p(z)
    is then the same density in training and after it, and running statistics stay those of data.
    Gradients reach the encoder through p(z) too. The encoder belongs to the VAE; this module's
    state holds the pseudo-inputs alone.

    Source: Tomczak and Welling 2018, equation (9).

    Args:
        encoder: the VAE's, shared.
        latent_dim: L.
        example_shape: of one example, and so of a pseudo-input.
        pseudo_inputs: K.
        value_range: they are clamped to it (the paper's hardtanh) and begin uniform in it; None
            bounds nothing and begins with standard normal noise.
    """

    def __init__(
        self,
        encoder: nn.Module,
        latent_dim: int,
        example_shape: tuple[int, ...],
        *,
        pseudo_inputs: int,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(latent_dim)
        self._encoder_ref = (encoder,)  # in a tuple, which torch does not look for modules in
        self.value_range = value_range
        shape = (pseudo_inputs, *example_shape)
        noise = torch.randn(shape)
        if value_range is not None:
            low, high = value_range
            noise = low + (high - low) * torch.rand(shape)
        self.pseudo_inputs = nn.Parameter(noise)

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row, in nats; costs a pass of the encoder over K inputs."""
        return self.mixture().log_prob(z)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points: a pseudo-input, then a point of its posterior."""
        return self.mixture().sample(n, generator=generator)

    def inputs(self) -> Examples:
        """Return the pseudo-inputs as the encoder sees them, `(K, *example)`."""
        if self.value_range is None:
            return self.pseudo_inputs
        return self.pseudo_inputs.clamp(*self.value_range)

    def mixture(self) -> GaussianMixture:
        """Return p(z) as the mixture that it is; costs a pass of the encoder over K inputs."""
        encoder = self._encoder_ref[0]
        with eval_mode(encoder):
            mean, log_variance = mean_and_log_variance(encoder(self.inputs()))
        log_weights = mean.new_full((len(mean),), -math.log(len(mean)))
        return GaussianMixture(log_weights, mean, log_variance)


@final
class Vamp(PriorSpec):
    """The VampPrior: an even mixture of the encoder's posteriors at K learned pseudo-inputs.

    Example:
        >>> import dpvae_cli as dpvae
        >>> recipe = dpvae.load_recipe("beta_h_moons", ["prior={kind: vamp, pseudo_inputs: 20}"])
        >>> dpvae.build(recipe).prior.sample(3).shape
        torch.Size([3, 2])
    """

    kind: Literal["vamp"] = "vamp"
    has_generation: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    pseudo_inputs: Annotated[int, Field(ge=1, le=10_000)] = 500
    """K (paper: 500)."""
    range: Interval | None = None
    """Range of the pseudo-inputs, such as [0, 1] for images; null: unbounded."""

    def _build(
        self,
        latent_dim: int,
        encoder: nn.Module | None,
        example_shape: tuple[int, ...] | None,
        _context: int,
        /,
    ) -> VampPrior:
        if encoder is None or example_shape is None:
            raise UsageError(
                "a vamp prior is made of the encoder at pseudo-inputs: it needs both the encoder "
                "and the shape of an example",
                hint="Give dpvae.VAE example_shape=(...); codes alone can have prior=mixture.",
            )
        return VampPrior(
            encoder,
            latent_dim,
            example_shape,
            pseudo_inputs=self.pseudo_inputs,
            value_range=self.range,
        )
