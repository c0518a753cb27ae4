"""Bijections made of zuko's transforms: spline coupling and masked autoregression.

zuko keeps a transform's parameters in a module and writes the transform itself when it is called;
here such modules follow each other from z to z0, each with its log-determinant.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, final

import torch
from torch import nn
from zuko.flows import MaskedAutoregressiveTransform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.flows.gaussianization import ElementWiseTransform
from zuko.transforms import MonotonicRQSTransform

from dpvae_cli.foundation.shapes import Codes, PerExample
from dpvae_cli.mathematics.coupling import Bijection, Mask, overflow_to_infinity


@final
class Flow(Bijection):
    """g = the given layers one after another, the first acts on z.

    Layers are modules of zuko's that return a transform when they are called.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Codes) -> tuple[Codes, PerExample]:
        """Return z0 = g(z) and log|det dz0/dz| in nats, `(batch,)`."""
        z0, log_abs_det = z, z.new_zeros(z.shape[0])
        for layer in self.layers:
            z0, part = self._transform(layer).call_and_ladj(z0)
            log_abs_det = log_abs_det + part
        return overflow_to_infinity(self, z, z0, log_abs_det)

    def inverse(self, z0: Codes) -> tuple[Codes, PerExample]:
        """Return z = g^-1(z0) and log|det dz/dz0| in nats, `(batch,)`.

        The log-determinant is minus that of the way back, at the z found.
        """
        z, log_abs_det = z0, z0.new_zeros(z0.shape[0])
        for layer in reversed(self.layers):
            transform = self._transform(layer)
            z = transform.inv(z)
            log_abs_det = log_abs_det - transform.call_and_ladj(z)[1]
        return z, log_abs_det

    def _transform(self, layer: nn.Module) -> Any:
        """Return the transform that a layer writes, given the context where it takes one."""
        return layer() if isinstance(layer, ElementWiseTransform) else layer(self.context)


def spline_coupling(
    masks: Sequence[Mask], *, hidden: int, bins: int, bound: float, context: int = 0
) -> Flow:
    """Return monotonic rational-quadratic splines on what a mask leaves free, given the rest.

    Splines act within [-bound, bound] and leave what is outside as it is. So each dimension is
    first shifted and scaled by two learned numbers (the identity at first), which brings codes of
    any scale into the splines' reach. There is a mask of length L for each block: 1 conditions, 0
    is transformed. `hidden` is the width of the two hidden layers of a block's network, `context`
    the number of entries that it is given beside z.

    Source: Durkan et al. 2019, section 3.
    """
    scaling = ElementWiseTransform(len(masks[0]))
    for parameter in scaling.parameters():
        nn.init.zeros_(parameter)
    blocks = [
        GeneralCouplingTransform(
            len(mask),
            context=context,
            mask=torch.tensor(mask, dtype=torch.bool),
            univariate=partial(MonotonicRQSTransform, bound=bound),
            shapes=((bins,), (bins,), (bins - 1,)),
            hidden_features=(hidden, hidden),
        )
        for mask in masks
    ]
    return Flow([scaling, *blocks])


def masked_autoregressive(latent_dim: int, *, blocks: int, hidden: int, context: int = 0) -> Flow:
    """Return affine autoregressive transforms of z whose order turns round from one to the next.

    Density costs one pass a block, sampling L of them. Source: Papamakarios et al. 2017, section 3.
    `hidden` is the width of the two hidden layers of a block's masked network, `context` the number
    of entries that it is given beside z.
    """
    forwards = torch.arange(latent_dim)
    orders = [forwards if block % 2 == 0 else forwards.flip(0) for block in range(blocks)]
    return Flow(
        [
            MaskedAutoregressiveTransform(
                latent_dim, context=context, order=order, hidden_features=(hidden, hidden)
            )
            for order in orders
        ]
    )
