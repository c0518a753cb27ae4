"""What an invertible network between z and z0 must offer."""

import copy
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.shapes import Codes, PerExample

B = TypeVar("B", bound="Bijection")


class Bijection(nn.Module, ABC):
    """g: z -> z0 and back, each with the log-determinant of the way taken."""

    context: Tensor | None = None
    """What g depends on beside z: `(context,)` for all codes or `(batch, context)`, or nothing."""

    def given(self: B, context: Tensor) -> B:
        """Return g with a context; the weights are shared. It must be made for one."""
        bound = copy.copy(self)
        bound.context = context
        return bound

    @abstractmethod
    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`.

        Where g overflows z0 is infinite and the log-determinant zero (`overflow_to_infinity`).
        """

    @abstractmethod
    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`."""


def overflow_to_infinity(
    g: Bijection, z: Codes, z0: Codes, log_abs_det: PerExample
) -> tuple[Codes, PerExample]:
    """Return z0 = g(z) and its log-determinant, infinity and zero where finite z overflow.

    The density of z is lost there, infinity less infinity. It is far smaller than any number: a
    base falls off faster than the determinant grows, and at an infinite z0 its logarithm is -inf.
    Weights that are not finite are not an overflow: then NaN is returned, at the latest where no
    gradient is wanted.
    """
    is_lost = torch.isfinite(z).all(dim=1) & ~torch.isfinite(z0.sum(dim=1) + log_abs_det)
    if (
        not torch.is_grad_enabled()
        and not torch.compiler.is_exporting()
        and bool(is_lost.any())
        and not all(bool(torch.isfinite(weight).all()) for weight in g.parameters())
    ):
        return z0, log_abs_det
    z0 = z0.masked_fill(is_lost.unsqueeze(1), torch.inf)
    return z0, log_abs_det.masked_fill(is_lost, 0.0)
