"""A prior given a label: one flow for all labels, whose networks see which one it is."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.randomness import uniform_noise
from dpvae_cli.foundation.shapes import CodeLabels, Codes, PerExample
from dpvae_cli.priors.base import Prior, PriorSpec
from dpvae_cli.priors.decoupled import DecoupledPrior
from dpvae_cli.priors.standardized import StandardizedPrior

MAX_LABELS = 1_000


@final
class ClassConditionalPrior(Prior):
    """p(z) = sum over y of w_y p(z | y), p(z | y) a flow g_y whose networks are given y.

    `given(y)` is p(z | y), which has a generation space; their mixture p(z) has none. The label
    enters each network as one entry of zeros and ones per label, beside z.

    Args:
        flow: built with a context of as many entries as there are labels.
        labels: whole numbers, each once.
        weights: w_y, the share of each label; by default even.

    Example:
        >>> from dpvae_cli.priors.spline import Spline
        >>> prior = ClassConditionalPrior(Spline().build(2, context=3), labels=(0, 1, 7))
        >>> prior.given(7).sample(4).shape
        torch.Size([4, 2])
    """

    values: Tensor
    weights: Tensor

    def __init__(
        self,
        flow: Prior,
        labels: Sequence[int],
        weights: Float[Tensor, " labels"] | None = None,
    ) -> None:
        super().__init__(flow.latent_dim)
        assert isinstance(flow, DecoupledPrior)
        self.flow: DecoupledPrior = flow
        self.spec, self.labels = flow.spec, tuple(labels)
        even = torch.full((len(self.labels),), 1 / len(self.labels))
        self.register_buffer("values", torch.tensor(self.labels))
        self.register_buffer("weights", even if weights is None else weights)

    def log_prob(self, z: Codes) -> PerExample:
        """Return log p(z) of each row in nats; costs a pass for each label."""
        logs = [self.given(label).log_prob(z) for label in self.labels]
        return torch.logsumexp(torch.stack(logs) + self.weights.log().unsqueeze(1), dim=0)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Codes:
        """Draw n points: a label by its weight, then a point given the label."""
        uniform = uniform_noise(n, like=self.weights, generator=generator)
        cumulative = torch.cumsum(self.weights, dim=0)
        chosen = torch.searchsorted(cumulative, uniform, right=True).clamp(max=len(cumulative) - 1)
        z = uniform.new_empty(n, self.latent_dim)
        for place, label in enumerate(self.labels):
            rows = torch.nonzero(chosen == place).squeeze(1)
            if len(rows):
                drawn = self.given(label).sample(len(rows), generator=generator)
                z = z.index_put((rows,), drawn)
        return z

    def fitting_loss(
        self,
        z: Codes,
        *,
        labels: CodeLabels | None = None,
        generator: torch.Generator | None = None,
    ) -> PerExample:
        """Return the flow's loss of each code given its label."""
        assert labels is not None
        places = torch.searchsorted(self.values, labels)
        return self._bound(places).fitting_loss(z, generator=generator)

    def _given(self, label: int) -> Prior:
        return self._bound(torch.tensor(self.labels.index(label), device=self.weights.device))

    def _bound(self, places: Int[Tensor, "*rows"]) -> DecoupledPrior:
        """Return the flow given labels, by their places among all."""
        context = torch.nn.functional.one_hot(places, len(self.labels)).to(self.weights)
        flow = self.flow
        bound = type(flow)(flow.bijection.given(context), flow.base)
        bound.spec = self.spec
        return bound


def build_saved_prior(
    spec: PriorSpec,
    tensors: Mapping[str, Tensor],
    latent_dim: int,
    encoder: nn.Module | None = None,
    example_shape: tuple[int, ...] | None = None,
) -> Prior:
    """Return a prior that saved tensors can be loaded into.

    It is standardised, and given labels, where theirs was.

    Raises:
        UsageError: a prior of this kind takes no labels, or there are too many.
    """
    values = tensors.get("prior.values")
    if values is None:
        prior = spec.build(latent_dim, encoder, example_shape)
    else:
        check_label_count(values.numel())
        labels = [int(value) for value in values.flatten()]
        flow = spec.build(latent_dim, encoder, example_shape, context=len(labels))
        prior = ClassConditionalPrior(flow, labels)
    return StandardizedPrior(prior) if "deviation" in tensors else prior


def check_label_count(count: int) -> None:
    """Check that labels are classes, of which there are not too many.

    Raises:
        UsageError: there are more than `MAX_LABELS`.
    """
    if count > MAX_LABELS:
        raise UsageError(
            f"there are {count:,} different labels, {MAX_LABELS:,} at most are allowed",
            hint="A label is a class that many examples share.",
        )
