"""beta-VAE-H: a weight on the KL (Higgins et al. 2017; paper, equations (25) and (26))."""

from typing import Annotated, Literal, final

from pydantic import Field

from dpvae_cli.regularizers.base import DataSizes, WarmUpSpec, WeightedKl


@final
class BetaH(WarmUpSpec):
    """beta-VAE-H: beta * KL[q(z|x), p(z)]."""

    kind: Literal["beta_h"] = "beta_h"
    beta: Annotated[float, Field(ge=0)] = 4.0
    """Weight of the KL (paper, Table 2: 4)."""

    def build(self, latent_dim: int, sizes: DataSizes) -> WeightedKl:
        """Return the regularizer."""
        return WeightedKl(self.beta)
