"""The exponential moving average of a model's weights, for use after training."""

from copy import deepcopy
from typing import final

import torch
from torch import Tensor

from dpvae_cli.model import VAE


@final
class Average:
    """A copy of the model whose weights follow the trained ones slowly.

    After optimizer step t (from 1) every weight becomes d ema + (1 - d) weight with
    d = min(decay, (1 + t) / (10 + t)). The warm-up takes out the start: the initial weights' share
    falls as t^-9, and a run shorter than 1 / (1 - decay) steps averages over its last tenth or so
    instead of standing still. Buffers (running statistics of batch norm, masks) are copied.

    Source: averaging, Polyak and Juditsky 1992; the warm-up is that of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`.

    Args:
        model: the model in training; the average starts as a copy.
        decay: in (0, 1); about 1 / (1 - decay) steps are averaged over.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.model = deepcopy(model)
        self._decay = decay
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._weights: list[Tensor] = list(model.parameters())
        self._copied, self._buffers = list(self.model.buffers()), list(model.buffers())

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights as they are after `steps` optimizer steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averaged, self._weights, 1 - decay)
        torch._foreach_copy_(self._copied, self._buffers)
