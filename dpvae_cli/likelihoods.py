"""Likelihoods p(x|z): normalised densities over whole examples, in nats (paper, section 3.1)."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.randomness import normal_noise, uniform_noise
from dpvae_cli.foundation.shapes import Examples, PerExample
from dpvae_cli.foundation.spec import Spec
from dpvae_cli.mathematics.gaussian import LOG_2PI

MIN_PROBABILITY = 1e-6


class Likelihood(nn.Module, ABC):
    """p(x|z) as a function of what the decoder writes."""

    spec: "LikelihoodSpec | None" = None
    """The recipe section that says it; None where there is none."""

    @abstractmethod
    def log_prob(self, x: Examples, output: Examples) -> PerExample:
        """Return log p(x|z) of each example in nats, summed over its dimensions."""

    @abstractmethod
    def mean(self, output: Examples) -> Examples:
        """Return E[x|z]: what is shown as a sample or a reconstruction."""

    @abstractmethod
    def sample(self, output: Examples, *, generator: torch.Generator | None = None) -> Examples:
        """Draw x ~ p(x|z), one for each row."""

    @abstractmethod
    def bits_per_dimension(self, nll: float, dimensions: int, *, eight_bit: bool) -> float | None:
        """Convert nats an example to bits per dimension, or None where that has no meaning."""


@final
class GaussianLikelihood(Likelihood):
    """N(x; output, scale^2 I), normalised; scale is fixed, or one learned number with a floor."""

    raw_scale: Tensor

    def __init__(self, scale: float, *, learned: bool, floor: float) -> None:
        super().__init__()
        self.spec = Gaussian(scale=scale, learned=learned, floor=floor)
        self.floor = floor if learned else 0.0
        raw = torch.tensor(math.log(scale - self.floor))
        if learned:
            self.raw_scale = nn.Parameter(raw)
        else:
            self.register_buffer("raw_scale", raw)

    @property
    def scale(self) -> Tensor:
        """Return sigma, in the units of x."""
        return self.floor + torch.exp(self.raw_scale)

    def log_prob(self, x: Examples, output: Examples) -> PerExample:
        """Return -1/2 |x - output|^2 / scale^2 - D (log scale + 1/2 log 2 pi), in nats."""
        squared = (x - output).square().flatten(1).sum(dim=1)
        dimensions = math.prod(x.shape[1:])
        constant = dimensions * (torch.log(self.scale) + 0.5 * LOG_2PI)
        return -0.5 * squared / self.scale.square() - constant

    def mean(self, output: Examples) -> Examples:
        """Return the output itself."""
        return output

    def sample(self, output: Examples, *, generator: torch.Generator | None = None) -> Examples:
        """Return the output with normal noise of deviation `scale`."""
        return output + self.scale * normal_noise(*output.shape, like=output, generator=generator)

    def bits_per_dimension(self, nll: float, dimensions: int, *, eight_bit: bool) -> float | None:
        """Return (nll / D + log 256) / log 2 for 8-bit data (no dequantisation), else None."""
        return (nll / dimensions + math.log(256)) / math.log(2) if eight_bit else None


@final
class BernoulliLikelihood(Likelihood):
    """Independent Bernoullis for x of 0 and 1; the decoder writes logits, or `probabilities`.

    Probabilities are kept `MIN_PROBABILITY` away from 0 and 1, so that none is impossible.
    """

    def __init__(self, *, probabilities: bool | None = None) -> None:
        super().__init__()
        self.spec = Bernoulli(probabilities=probabilities)
        self.probabilities = probabilities

    def log_prob(self, x: Examples, output: Examples) -> PerExample:
        """Return sum over dimensions of log Bernoulli(x; mean(output)), in nats."""
        logits = torch.logit(output, eps=MIN_PROBABILITY) if self.probabilities else output
        loss = functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return -loss.flatten(1).sum(dim=1)

    def mean(self, output: Examples) -> Examples:
        """Return the probabilities."""
        return output if self.probabilities else torch.sigmoid(output)

    def sample(self, output: Examples, *, generator: torch.Generator | None = None) -> Examples:
        """Return zeros and ones."""
        mean = self.mean(output)
        uniform = uniform_noise(*mean.shape, like=mean, generator=generator)
        return (uniform < mean).to(mean.dtype)

    def bits_per_dimension(self, nll: float, dimensions: int, *, eight_bit: bool) -> float | None:
        """Return nll / (D log 2)."""
        return nll / (dimensions * math.log(2))


class LikelihoodSpec(Spec, ABC):
    """A recipe's `likelihood` section."""

    @abstractmethod
    def build(self) -> Likelihood:
        """Return the likelihood, which knows its `spec`."""

    @abstractmethod
    def validation_error(self, x: Examples) -> str | None:
        """Say why examples like `x` do not fit, or return None."""


@final
class Gaussian(LikelihoodSpec):
    """Gaussian around the decoder's output; weight w on the squared error is scale^2 = 1/(2w).

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> likelihood = dpvae.Gaussian(scale=1.0).build()
        >>> round(float(likelihood.log_prob(torch.zeros(1, 2), torch.zeros(1, 2))), 3)  # -log(2 pi)
        -1.838
    """

    kind: Literal["gaussian"] = "gaussian"
    scale: Annotated[float, Field(gt=0)] = 0.5**0.5
    """sigma in the units of x; 0.7071 is the released code's weight w = 1."""
    learned: bool = False
    """Learn sigma as one number, starting from `scale`."""
    floor: Annotated[float, Field(gt=0)] = 1e-3
    """A learned sigma stays above this; a fixed one may be anything."""

    @model_validator(mode="after")
    def _starts_above_floor(self) -> "Gaussian":
        if self.learned and self.scale <= self.floor:
            raise ValueError(f"a learned scale must start above floor ({self.floor})")
        return self

    def build(self) -> GaussianLikelihood:
        """Return the likelihood with its scale."""
        return GaussianLikelihood(self.scale, learned=self.learned, floor=self.floor)

    def validation_error(self, x: Examples) -> str | None:
        """Refuse data that is not finite."""
        return None if bool(torch.isfinite(x).all()) else "the data has values that are not finite"


@final
class Bernoulli(LikelihoodSpec):
    """Bernoulli for data of zeros and ones, with logits from the decoder.

    Example:
        >>> import torch
        >>> import dpvae_cli as dpvae
        >>> x = torch.tensor([[1.0, 0.0]])
        >>> round(float(dpvae.Bernoulli().build().log_prob(x, torch.zeros(1, 2))), 3)  # 2 log(1/2)
        -1.386
    """

    kind: Literal["bernoulli"] = "bernoulli"
    probabilities: bool | None = None
    """Your own decoder ends with a sigmoid; null: it does not, which is verified."""

    def build(self) -> BernoulliLikelihood:
        """Return the likelihood; it has no parameters."""
        return BernoulliLikelihood(probabilities=self.probabilities)

    def validation_error(self, x: Examples) -> str | None:
        """Refuse data other than 0 and 1."""
        if bool(((x == 0) | (x == 1)).all()):
            return None
        low, high = float(x.min()), float(x.max())
        first = "add" if low >= 0 and high <= 1 else "scale it to [0, 1] and add"
        return (
            f"bernoulli needs data of 0 and 1, this has values from {low:g} to {high:g}; "
            f"{first} data.binarize=threshold, static or dynamic, or use likelihood=gaussian"
        )


AnyLikelihood = Annotated[Gaussian | Bernoulli, Field(discriminator="kind")]
