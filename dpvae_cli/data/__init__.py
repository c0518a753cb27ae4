"""Data sets (paper, section 5): one file and one spec class per kind, joined in `AnyData`."""

from typing import Annotated

from pydantic import Field

from dpvae_cli.data.arrays import Arrays
from dpvae_cli.data.binarized_mnist import BinarizedMnist
from dpvae_cli.data.celeba import Celeba
from dpvae_cli.data.dataset import Dataset, GenerativeFactor, Split
from dpvae_cli.data.digits import Digits
from dpvae_cli.data.dsprites import Dsprites
from dpvae_cli.data.folder import Folder
from dpvae_cli.data.mnist import Mnist
from dpvae_cli.data.moons import Moons
from dpvae_cli.data.sprites import Sprites
from dpvae_cli.data.svhn import Svhn

AnyData = Annotated[
    Moons | Digits | Sprites | Dsprites | Mnist | BinarizedMnist | Svhn | Celeba | Folder | Arrays,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyData",
    "Arrays",
    "BinarizedMnist",
    "Celeba",
    "Dataset",
    "Digits",
    "Dsprites",
    "Folder",
    "GenerativeFactor",
    "Mnist",
    "Moons",
    "Split",
    "Sprites",
    "Svhn",
]
