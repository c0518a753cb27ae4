"""A decoupled prior whose bijection is a masked autoregressive flow."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.decoupled import DecoupledPrior
from dpvae_cli.priors.standard_normal import StandardNormalPrior


@final
class Autoregressive(PriorSpec):
    """z0 ~ N(0, I), z = g^-1(z0), g a masked autoregressive flow (Papamakarios et al. 2017).

    Example:
        >>> import dpvae_cli as dpvae
        >>> prior = dpvae.Autoregressive(blocks=2).build(latent_dim=2)
        >>> prior.log_prob(prior.sample(5)).shape
        torch.Size([5])
    """

    kind: Literal["autoregressive"] = "autoregressive"
    has_generation: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    blocks: Annotated[int, Field(ge=2, le=256)] = 4
    """Autoregressive blocks; the order of the dimensions is reversed between them."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Width of the two hidden layers of each block's masked network."""

    def validation_error(self, latent_dim: int) -> str | None:
        """Reject one dimension, which no other can condition."""
        if latent_dim < 2:
            return (
                f"each dimension is conditioned on others and there is {latent_dim}; "
                "raise architecture.latent_dim or use prior=mixture"
            )
        return None

    def _build(
        self, latent_dim: int, _encoder: object, _shape: object, context: int, /
    ) -> DecoupledPrior:
        from dpvae_cli.mathematics.flows import masked_autoregressive  # noqa: PLC0415 - zuko is slow

        bijection = masked_autoregressive(
            latent_dim, blocks=self.blocks, hidden=self.hidden, context=context
        )
        return DecoupledPrior(bijection, StandardNormalPrior(latent_dim))
