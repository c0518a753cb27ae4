"""Encoder/decoder pairs (paper, appendix C): one spec class a kind, joined in `AnyArchitecture`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.architectures.base import Encoder
from dpvae_cli.architectures.celeba_conv import CelebaConv
from dpvae_cli.architectures.conv import Conv
from dpvae_cli.architectures.mlp import Mlp
from dpvae_cli.architectures.mnist_conv import MnistConv
from dpvae_cli.architectures.own import Own
from dpvae_cli.architectures.svhn_conv import SvhnConv

AnyArchitecture = Annotated[
    Mlp | MnistConv | SvhnConv | CelebaConv | Conv | Own, Field(discriminator="kind")
]

__all__ = [
    "AnyArchitecture",
    "CelebaConv",
    "Conv",
    "Encoder",
    "Mlp",
    "MnistConv",
    "Own",
    "SvhnConv",
]
