"""Models whose aggregate posterior is known: the encoder's means are the examples themselves."""

import math

import torch
from torch import Tensor, nn

from dpvae_cli.data import Dataset, Split
from dpvae_cli.evaluation.context import EvaluationContext
from dpvae_cli.model import VAE
from dpvae_cli.priors import Decoupled, Prior, StandardNormalPrior
from dpvae_cli.recipe import Evaluation
from dpvae_cli.sampling.samples import TrainingEncodings


class Echo(nn.Module):
    """An encoder that returns its input as the mean, with one log-variance a dimension."""

    def __init__(self, log_variance: Tensor) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(log_variance)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.log_variance.expand_as(x)


def planted(prior: Prior, means: Tensor, deviation: float | Tensor) -> tuple[VAE, Dataset]:
    """Return a model with this prior whose codes are these."""
    deviations = torch.as_tensor(deviation).expand(means.shape[1])
    model = VAE(
        encoder=Echo(2 * torch.log(deviations).float()),
        decoder=nn.Linear(means.shape[1], means.shape[1]),
        likelihood="gaussian",
        prior=prior,
        example_shape=tuple(means.shape[1:]),
    )
    split = Split(means.float())
    return model, Dataset("planted", train=split, validation=split, test=split)


def context(model: VAE, data: Dataset, *, seed: int = 0) -> EvaluationContext:
    encoded = TrainingEncodings(model, lambda: data)
    return EvaluationContext(model, lambda: data, encoded, Evaluation(), seed)


def prior_of(kind: str, latent_dim: int = 2) -> Prior:
    """Return N(0, I), or a decoupled prior with weights that bend it well."""
    if kind == "standard_normal":
        return StandardNormalPrior(latent_dim)
    torch.manual_seed(1)
    prior = Decoupled(hidden=8).build(latent_dim)
    for parameter in prior.parameters():
        parameter.data *= 1.5
    return prior.eval()


@torch.no_grad()
def codes(prior: Prior, z0: Tensor) -> Tensor:
    """Return g^-1 of points in the generation space."""
    return prior.to_representation(z0)[0]


def normal(n: int, latent_dim: int = 2, *, deviation: float = 0.0, seed: int = 0) -> Tensor:
    """Return means of which N(0, I) is left once normal noise of this deviation is added."""
    generator = torch.Generator().manual_seed(seed)
    return math.sqrt(1 - deviation**2) * torch.randn(n, latent_dim, generator=generator)
