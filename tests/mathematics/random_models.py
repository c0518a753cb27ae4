"""Random float64 models for the tests: far from the identity, the same at every run."""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.mathematics.gaussian import DiagonalGaussian


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers, float64."""
    return torch.randn(shape, generator=stream(seed, "test"), dtype=torch.float64)


def randomised(module: nn.Module, *, gain: float = 1.0, seed: int = 0) -> Any:
    """Return the module in float64 with every parameter drawn anew: N(0, gain^2 / fan in)."""
    generator = stream(seed, "weights")
    module = module.double()
    for parameter in module.parameters():
        fan_in = parameter.shape[-2] if parameter.ndim > 1 else 1
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = gain * draw / max(fan_in, 4) ** 0.5
    return module


def random_posterior(
    batch: int, latent_dim: int, *, scale: float = 0.5, seed: int = 1
) -> DiagonalGaussian:
    """Return q(z|x) with spread-out means and standard deviations around `scale`; both leaves."""
    mean = normal(batch, latent_dim, seed=seed)
    log_scale = 0.3 * normal(batch, latent_dim, seed=seed + 1) + torch.tensor(scale).log()
    return DiagonalGaussian(mean.requires_grad_(), (2 * log_scale).detach().requires_grad_())


def members(union: Any) -> tuple[type, ...]:
    """Return the spec classes of a discriminated union such as `AnyPrior`."""
    return get_args(get_args(union)[0])


def assert_near(actual: float, expected: float, *, error: float, floor: float = 1e-9) -> None:
    """Assert agreement within four standard errors."""
    assert abs(actual - expected) <= 4 * error + floor, (actual, expected, error)
