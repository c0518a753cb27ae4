"""Encoder/decoder pairs (paper, appendix C): one spec class a kind, joined in `AnyArchitecture`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.architectures.base import Encoder
from dpvae_cli.architectures.mlp import Mlp
from dpvae_cli.architectures.mnist_conv import MnistConv

AnyArchitecture = Annotated[Mlp | MnistConv, Field(discriminator="kind")]

__all__ = ["AnyArchitecture", "Encoder", "Mlp", "MnistConv"]
