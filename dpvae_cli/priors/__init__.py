"""Priors p(z) on the representation space: one spec class per kind, joined in `AnyPrior`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.priors.base import Prior
from dpvae_cli.priors.decoupled import Decoupled, DecoupledPrior
from dpvae_cli.priors.standard_normal import StandardNormal, StandardNormalPrior

AnyPrior = Annotated[StandardNormal | Decoupled, Field(discriminator="kind")]

__all__ = [
    "AnyPrior",
    "Decoupled",
    "DecoupledPrior",
    "Prior",
    "StandardNormal",
    "StandardNormalPrior",
]
