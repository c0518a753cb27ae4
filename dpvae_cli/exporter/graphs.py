"""What a model computes, as modules of tensors alone that torch.export and ONNX can hold."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from dpvae_cli.data.dataset import Standardization
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.model import VAE
from dpvae_cli.priors import MixturePrior, Prior, StandardizedPrior, VampPrior


class Graph(nn.Module, ABC):
    """Part of a model, of a copy of it on the CPU in evaluation mode; rows are independent.

    Examples are in the units of the training data: what `data.scale: standardize` did to them is
    part of the graph.

    Args:
        model: the trained model; it stays as it is.
    """

    what: ClassVar[str]
    """Its name on the command line."""
    input_name: ClassVar[str]

    def __init__(self, model: VAE) -> None:
        super().__init__()
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.model = model.with_prior(_freeze(model.prior))
        self.standardize = _Standardize(model.units.standardization, model.dtype)

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """Return the names of what it returns."""

    def example_input(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw n rows of input, standard normal; of examples too."""
        is_code = self.input_name != "x"
        shape = (self.model.latent_dim,) if is_code else self.model.example_shape
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, *shape, generator=generator, dtype=self.model.dtype)

    def _decode(self, z: Codes) -> Examples:
        return self.standardize.inverse(self.model.decode(z))


@final
class DecoderGraph(Graph):
    """z -> x, the mean of p(x|z)."""

    what = "decoder"
    input_name = "z"
    output_names = ("x",)

    def forward(self, z: Codes) -> Examples:
        """Return E[x|z]."""
        return self._decode(z)


@final
class SamplerGraph(Graph):
    """z0 -> z = g^-1(z0) and x, the mean of p(x|z); with z0 ~ N(0, I) x is a sample.

    Raises:
        UsageError: the prior has no z0.
    """

    what = "sampler"
    input_name = "z0"
    output_names = ("z", "x")

    def __init__(self, model: VAE) -> None:
        model.prior.require_generation()
        super().__init__(model)

    def forward(self, z0: Codes) -> tuple[Codes, Examples]:
        """Return z = g^-1(z0) and E[x|z]."""
        z = self.model.prior.points(z0)
        # a graph whose output is its input is none to some runtimes
        return z.clone(), self._decode(z)


@final
class ModelGraph(Graph):
    """z -> z0 = g(z) where there is one, log p(z) in nats, and x, the mean of p(x|z)."""

    what = "model"
    input_name = "z"

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return `z0`, `log_prob` and `x`, or without z0 the other two."""
        return ("z0", "log_prob", "x")[self.model.prior.generation is None :]

    def forward(self, z: Codes) -> tuple[Codes, PerExample, Examples] | tuple[PerExample, Examples]:
        """Return g(z), log p(z) and E[x|z]."""
        prior = self.model.prior
        if prior.generation is None:
            return prior.log_prob(z), self._decode(z)
        z0, log_abs_det = prior.to_generation(z)
        return z0.clone(), prior.generation.log_prob(z0) + log_abs_det, self._decode(z)


@final
class EncoderGraph(Graph):
    """x -> mean and log-variance of q(z|x)."""

    what = "encoder"
    input_name = "x"
    output_names = ("mean", "log_variance")

    def example_input(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw n examples, standard normal in the numbers that the encoder sees."""
        return self.standardize.inverse(super().example_input(n, seed=seed))

    def forward(self, x: Examples) -> tuple[Codes, Codes]:
        """Return mean and log-variance."""
        posterior = self.model.encode(self.standardize(x))
        return posterior.mean, posterior.log_variance


GRAPHS: dict[str, type[Graph]] = {
    graph.what: graph for graph in (DecoderGraph, SamplerGraph, ModelGraph, EncoderGraph)
}
"""Every graph by its name."""


@final
class _Standardize(nn.Module):
    """x -> (x - mean) / deviation and back, in float64: a mean may be large beside a deviation."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, standardization: Standardization | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.is_identity = standardization is None
        if standardization is not None:
            self.register_buffer("mean", standardization.mean.double())
            self.register_buffer("deviation", standardization.deviation.double())

    def forward(self, x: Examples) -> Examples:
        if self.is_identity:
            return x
        return ((x.double() - self.mean) / self.deviation).to(self.dtype)

    def inverse(self, x: Examples) -> Examples:
        if self.is_identity:
            return x
        return (x.double() * self.deviation + self.mean).to(self.dtype)


def _freeze(prior: Prior) -> Prior:
    """Return the same density without what depends on more than its own weights."""
    _ = prior.log_normaliser  # some priors keep it
    if isinstance(prior, StandardizedPrior):
        return StandardizedPrior(_freeze(prior.prior), prior.mean, prior.deviation)
    if not isinstance(prior, VampPrior):
        return prior
    posterior = prior.mixture()
    mixture = MixturePrior(prior.latent_dim, len(posterior.mean)).to(posterior.mean)
    deviation = torch.exp(-0.5 * posterior.log_variance)
    mixture.set_components(posterior.log_weights.exp(), posterior.mean, torch.diag_embed(deviation))
    return mixture.requires_grad_(False)
