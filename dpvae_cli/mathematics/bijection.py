"""What an invertible network between z and z0 must offer."""

from abc import ABC, abstractmethod

from torch import nn

from dpvae_cli.foundation.shapes import Codes, PerExample


class Bijection(nn.Module, ABC):
    """g: z -> z0 and back, each with the log-determinant of the way taken."""

    @abstractmethod
    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""

    @abstractmethod
    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`."""
