"""beta-VAE-H: a weight on the KL (Higgins et al. 2017; paper, equations (25) and (26))."""

from typing import Annotated, Literal, final

from pydantic import Field

from dpvae_cli.regularizers.base import Batch, DataSizes, Regularizer, RegularizerSpec, Term


@final
class BetaHRegularizer(Regularizer):
    """beta * KL[q(z|x), p(z)]."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the KL with weight beta."""
        return {"kl": Term(batch.kl(), self.beta)}


@final
class BetaH(RegularizerSpec):
    """beta-VAE-H: beta * KL[q(z|x), p(z)]."""

    kind: Literal["beta_h"] = "beta_h"
    beta: Annotated[float, Field(ge=0)] = 4.0
    """Weight of the KL (paper, Table 2: 4)."""

    def build(self, latent_dim: int, sizes: DataSizes) -> BetaHRegularizer:
        """Return the regularizer."""
        return BetaHRegularizer(self.beta)
