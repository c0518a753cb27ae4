"""The plain VAE: the negative ELBO, nothing else (paper, equation (1))."""

from typing import Literal, final

from dpvae_cli.regularizers.base import Batch, DataSizes, Regularizer, RegularizerSpec, Term


@final
class VaeRegularizer(Regularizer):
    """KL[q(z|x), p(z)] with weight one."""

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the KL."""
        return {"kl": Term(batch.kl(), 1.0)}


@final
class Vae(RegularizerSpec):
    """No regularizer beyond the ELBO."""

    kind: Literal["vae"] = "vae"

    def build(self, latent_dim: int, sizes: DataSizes) -> VaeRegularizer:
        """Return the regularizer."""
        return VaeRegularizer()
