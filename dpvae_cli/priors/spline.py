"""A decoupled prior whose bijection is rational-quadratic spline coupling."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from dpvae_cli.mathematics.coupling import alternating
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.decoupled import DecoupledPrior
from dpvae_cli.priors.standard_normal import StandardNormalPrior


@final
class Spline(PriorSpec):
    """z0 ~ N(0, I), z = g^-1(z0), g of rational-quadratic splines (Durkan et al. 2019).

    Example:
        >>> import dpvae_cli as dpvae
        >>> prior = dpvae.Spline(blocks=2).build(latent_dim=2)
        >>> prior.log_prob(prior.sample(5)).shape
        torch.Size([5])
    """

    kind: Literal["spline"] = "spline"
    has_generation: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    blocks: Annotated[int, Field(ge=2, le=256)] = 4
    """Coupling blocks; masks alternate between even and odd dimensions."""
    bins: Annotated[int, Field(ge=2, le=256)] = 8
    """Pieces of each spline."""
    bound: Annotated[float, Field(gt=0)] = 5.0
    """Splines act within +-bound, after each dimension's learned shift and scale."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Width of the two hidden layers of each block's network."""

    def validation_error(self, latent_dim: int) -> str | None:
        """Reject one dimension."""
        if latent_dim < 2:
            return (
                f"coupling splits z in two and needs latent_dim >= 2 (given: {latent_dim}); "
                "raise architecture.latent_dim or use prior=mixture"
            )
        return None

    def _build(
        self, latent_dim: int, _encoder: object, _shape: object, context: int, /
    ) -> DecoupledPrior:
        from dpvae_cli.mathematics.flows import spline_coupling  # noqa: PLC0415 - zuko is slow

        masks = alternating(self.blocks, latent_dim)
        bijection = spline_coupling(
            masks, hidden=self.hidden, bins=self.bins, bound=self.bound, context=context
        )
        return DecoupledPrior(bijection, StandardNormalPrior(latent_dim))
