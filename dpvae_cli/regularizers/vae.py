"""The plain VAE: the negative ELBO, nothing else (paper, equation (1))."""

from typing import Literal, final

import torch

from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.density import LatentDensity
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.regularizers.base import Regularizer, RegularizerSpec, Term, Training


@final
class VaeRegularizer(Regularizer):
    """KL[q(z|x), p(z)] with weight one."""

    def terms(
        self,
        posterior: DiagonalGaussian,
        z: Codes,
        prior: LatentDensity,
        *,
        iteration: int,
        generator: torch.Generator | None = None,
    ) -> dict[str, Term]:
        """Return the KL."""
        return {"kl": Term(prior.kl(posterior, z), 1.0)}


@final
class Vae(RegularizerSpec):
    """No regularizer beyond the ELBO."""

    kind: Literal["vae"] = "vae"

    def build(self, latent_dim: int, training: Training) -> VaeRegularizer:
        """Return the regularizer."""
        return VaeRegularizer()
