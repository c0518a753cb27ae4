"""Regularizers (paper, section 4.3 and appendix B): one file and one spec class per kind."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.regularizers.base import Adversary, Batch, Regularizer, Term, Vae, build_regularizer
from dpvae_cli.regularizers.beta_b import BetaB
from dpvae_cli.regularizers.beta_h import BetaH
from dpvae_cli.regularizers.beta_tc import BetaTc
from dpvae_cli.regularizers.factor import Factor
from dpvae_cli.regularizers.info import Info

AnyRegularizer = Annotated[
    Vae | BetaH | BetaB | BetaTc | Factor | Info, Field(discriminator="kind")
]

__all__ = [
    "Adversary",
    "AnyRegularizer",
    "Batch",
    "BetaB",
    "BetaH",
    "BetaTc",
    "Factor",
    "Info",
    "Regularizer",
    "Term",
    "Vae",
    "build_regularizer",
]
