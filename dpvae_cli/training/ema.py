"""The exponential moving average of a model's weights, for use after training."""

from copy import deepcopy
from typing import final

import torch
from torch import Tensor

from dpvae_cli.model import VAE


@final
class EMA:
    """A copy of the model whose weights are an exponential moving average of the trained ones.

    After optimizer step t (from 1) every weight becomes d ema + (1 - d) weight with
    d = min(decay, (1 + t) / (10 + t)). The warm-up removes the initial weights, whose share falls
    as t^-9; a run shorter than 1 / (1 - decay) steps averages over about its last tenth. Buffers
    (running statistics of batch norm, masks) are copied.

    Source: averaging, Polyak and Juditsky 1992; the warm-up is that of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`.

    Args:
        model: the model in training; the average starts as a copy.
        decay: in (0, 1); about 1 / (1 - decay) steps are averaged over.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.model = deepcopy(model)
        self._decay = decay
        self._averages: list[Tensor] = list(self.model.parameters())
        self._weights: list[Tensor] = list(model.parameters())
        self._copies, self._buffers = list(self.model.buffers()), list(model.buffers())

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Add the weights after `steps` optimizer steps to the average."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        torch._foreach_copy_(self._copies, self._buffers)
