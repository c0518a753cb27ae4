"""The plain VAE: the negative ELBO, nothing else (paper, equation (1))."""

from typing import Literal, final

from dpvae_cli.regularizers.base import DataSizes, WarmUpSpec, WeightedKl


@final
class Vae(WarmUpSpec):
    """No regularizer beyond the ELBO."""

    kind: Literal["vae"] = "vae"

    def build(self, latent_dim: int, sizes: DataSizes) -> WeightedKl:
        """Return KL[q(z|x), p(z)] with weight one."""
        return WeightedKl(1.0)
