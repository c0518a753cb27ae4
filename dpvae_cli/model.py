"""The VAE: encoder, decoder, likelihood and prior, put together (paper, Figure 2)."""

from typing import final

import torch
from torch import nn

from dpvae_cli.foundation.randomness import seeded
from dpvae_cli.foundation.shapes import Codes, Examples, PerExample
from dpvae_cli.likelihoods import Likelihood
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.priors import Prior
from dpvae_cli.recipe import Recipe


@final
class VAE(nn.Module):
    """A variational autoencoder whose prior is an object of its own.

    With the standard normal prior it is a plain VAE, with the decoupled prior a dpVAE; nothing
    else changes.

    Args:
        encoder: maps examples to q(z|x).
        decoder: maps codes to the parameters of p(x|z).
        likelihood: p(x|z) as a function of the decoder's output.
        prior: p(z).
        latent_dim: L.
        example_shape: shape of one example.

    Example:
        >>> import dpvae_cli as dpvae
        >>> model = dpvae.build(dpvae.Recipe.load("vae_moons"))
        >>> model.sample(4).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: Prior,
        latent_dim: int,
        example_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.latent_dim = latent_dim
        self.example_shape = example_shape

    @property
    def device(self) -> torch.device:
        """Return the device the parameters are on."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the parameters, which examples and codes must have too."""
        return next(self.parameters()).dtype

    def encode(self, x: Examples) -> DiagonalGaussian:
        """Return q(z|x): `mean`, `log_variance`, `log_prob(z)`, `sample()`."""
        posterior: DiagonalGaussian = self.encoder(x)
        return posterior

    def decode(self, z: Codes) -> Examples:
        """Return E[x|z], the mean of p(x|z)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruction(self, x: Examples, z: Codes) -> PerExample:
        """Return -log p(x|z) of each example in nats, constants included."""
        return -self.likelihood.log_prob(x, self.decoder(z))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Examples:
        """Return decoded means of n prior samples: z0 ~ N(0, I), z = g^-1(z0), E[x|z]."""
        return self.decode(self.prior.sample(n, generator=generator))


def build(recipe: Recipe, *, example_shape: tuple[int, ...] | None = None) -> VAE:
    """Return the untrained model of a recipe; its weights follow from its seed.

    Encoder and decoder are drawn before the prior, so a decoupled model and its standard normal
    twin start from the same ones.

    Args:
        recipe: what to build.
        example_shape: shape of one example; None asks the recipe's data.

    Raises:
        UsageError: the architecture does not fit the data.
    """
    shape = recipe.data.example_shape() if example_shape is None else example_shape
    with seeded(recipe.seed, "weights"):
        encoder, decoder = recipe.architecture.build(shape)
        latent_dim = recipe.architecture.latent_dim
        return VAE(
            encoder=encoder,
            decoder=decoder,
            likelihood=recipe.likelihood.build(),
            prior=recipe.prior.build(latent_dim, encoder, shape),
            latent_dim=latent_dim,
            example_shape=shape,
        )
