"""beta-VAE-B: a KL held at a growing capacity (Burgess et al. 2018; paper, appendix B)."""

from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator

from dpvae_cli.foundation.spec import DefaultFrom
from dpvae_cli.regularizers.base import Batch, DataSizes, Regularizer, RegularizerSpec, Term


def capacity(step: int, *, max_capacity: float, stop_step: int) -> float:
    """Return C(step) in nats: linear in `step` = 1, 2, ..., `max_capacity` from `stop_step` on."""
    return max_capacity * min(step / stop_step, 1.0)


@final
class BetaBRegularizer(Regularizer):
    """gamma * |mean KL - C(step)|, a scalar of the global batch."""

    def __init__(self, gamma: float, *, max_capacity: float, stop_step: int) -> None:
        super().__init__()
        self.gamma = gamma
        self.max_capacity = max_capacity
        self.stop_step = stop_step

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the distance of the batch's mean KL from the capacity; log both beside it."""
        kl = batch.kl()
        step = batch.iteration + 1  # the first step is 1, so that the last one reaches C_max
        target = capacity(step, max_capacity=self.max_capacity, stop_step=self.stop_step)
        return {
            "capacity_gap": Term(
                (batch.group.all_reduce_mean(kl.mean()) - target).abs(), self.gamma
            ),
            "kl": Term(kl),
            "capacity": Term(kl.new_tensor(target)),
        }


@final
class BetaB(RegularizerSpec):
    """beta-VAE-B: gamma * |KL[q(z|x), p(z)] - C(step)|."""

    kind: Literal["beta_b"] = "beta_b"
    gamma: Annotated[float, Field(ge=0)] = 15.0
    """Weight of the distance from the capacity (paper, Table 2: 15)."""
    max_capacity: Annotated[float, Field(ge=0)] = 25.0
    """C_max in nats per example (paper, Table 2: 25); beyond log N only mismatch can reach it."""
    stop_step: Annotated[int, Field(ge=1)] | Annotated[None, DefaultFrom("training.iterations")] = (
        None
    )
    """C_stop: the iteration at which C reaches C_max (default: training.iterations)."""

    @model_validator(mode="before")
    @classmethod
    def _has_its_own_schedule(cls, values: Any) -> Any:
        if isinstance(values, dict) and "warm_up" in values:
            raise ValueError(
                "beta_b has no warm_up: its capacity grows until stop_step; set that instead"
            )
        return values

    def build(self, latent_dim: int, sizes: DataSizes) -> BetaBRegularizer:
        """Return the regularizer; a recipe has filled `stop_step` in."""
        if self.stop_step is None:
            raise ValueError("stop_step is resolved by Recipe; give it when building by hand")
        return BetaBRegularizer(
            self.gamma, max_capacity=self.max_capacity, stop_step=self.stop_step
        )
