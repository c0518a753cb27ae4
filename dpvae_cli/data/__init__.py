"""Data sets (paper, section 5): one file and one spec class per kind, joined in `AnyData`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.data.arrays import Arrays
from dpvae_cli.data.base import Dataset, Split
from dpvae_cli.data.mnist import Mnist
from dpvae_cli.data.moons import Moons

AnyData = Annotated[Moons | Mnist | Arrays, Field(discriminator="kind")]

__all__ = ["AnyData", "Arrays", "Dataset", "Mnist", "Moons", "Split"]
