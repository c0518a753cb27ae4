"""In whose tail the draws of one density lie when another has drawn them."""

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.foundation.shapes import PerExample

TAIL = 0.01
"""Which part of one side's samples counts as its tail, when the other side's are looked for."""


def share_in_tail(values: PerExample, *, of: Float[Tensor, " others"]) -> float:
    """Return which share of log-densities lies below the 1 % quantile of others; NaN lies there."""
    return float((~(values >= torch.quantile(of, TAIL))).double().mean())
