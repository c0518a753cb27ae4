"""InfoVAE with maximum mean discrepancy (Zhao et al. 2019; paper, equations (32) and (33)).

(33) prints the divergence without its weight (alpha + lambda - 1); here it has it, as in (32).
"""

from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from dpvae_cli.mathematics.divergences import mmd_squared
from dpvae_cli.regularizers.base import (
    Batch,
    DataSizes,
    Regularizer,
    Term,
    WarmUpSpec,
    WeightsPer,
    per_example_weight,
)


@final
class InfoRegularizer(Regularizer):
    """(1 - alpha) KL[q(z|x), p(z)] + weight * MMD^2(q(z), p(z)), prior samples through g^-1."""

    def __init__(self, *, kl_weight: float, mmd_weight: float, bandwidth: float) -> None:
        super().__init__()
        self.kl_weight, self.mmd_weight = kl_weight, mmd_weight
        self.bandwidth = bandwidth

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the KL and the unbiased MMD^2 (no unit, may be negative) of the batch."""
        z = batch.group.all_gather(batch.z)
        prior_samples = batch.prior.sample(len(z), generator=batch.generator)
        mmd = mmd_squared(z, prior_samples, bandwidth=self.bandwidth)
        return {
            "kl": Term(batch.kl(), self.kl_weight),
            "mmd": Term(mmd, self.mmd_weight),
        }


@final
class Info(WarmUpSpec):
    """InfoVAE: (1 - alpha) KL + (alpha + lambda - 1) MMD^2."""

    kind: Literal["info"] = "info"
    alpha: Annotated[float, Field(le=1)] = 0.0
    """1 - alpha weights the KL (paper, Table 2: 0)."""
    lambda_: Annotated[float, Field(alias="lambda")] = 1000.0
    """alpha + lambda - 1 weights the MMD (paper, Table 2: 1000)."""
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    """Kernel exp(-|d|^2 / bandwidth); null is L^2, the released code's."""
    weights_per: WeightsPer = "example"
    """`batch` divides alpha + lambda - 1 by training.batch_size, as the released code does."""

    @model_validator(mode="after")
    def _rewards_no_mismatch(self) -> "Info":
        if self.alpha + self.lambda_ < 1:
            raise ValueError("alpha + lambda must be at least 1, or the MMD would be rewarded")
        return self

    def build(self, latent_dim: int, sizes: DataSizes) -> InfoRegularizer:
        """Return the regularizer; the MMD needs at least two examples a batch."""
        mmd_weight = per_example_weight(
            self.alpha + self.lambda_ - 1, self.weights_per, sizes.batch_size
        )
        bandwidth = latent_dim**2 if self.bandwidth is None else self.bandwidth
        return InfoRegularizer(
            kl_weight=1 - self.alpha, mmd_weight=mmd_weight, bandwidth=float(bandwidth)
        )
