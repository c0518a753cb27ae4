"""The floor of a training step: only the model's own arithmetic."""

from itertools import cycle

import torch
from torch import Tensor

from dpvae_cli.model import VAE


class BareLoop:
    """Forward, backward and a fused Adam over a model's modules, on batches prepared in advance.

    It does not shuffle, seed noise, check for NaN, record terms or log. Batches are views of one
    tensor on the device; 8-bit batches are converted to floats here.
    """

    def __init__(self, model: VAE, data: Tensor, *, batch_size: int, learning_rate: float) -> None:
        self._model = model
        full = len(data) // batch_size * batch_size
        self._batches = cycle(data[:full].split(batch_size))
        self._optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def step(self) -> None:
        """Do one optimizer step on the negative ELBO."""
        x = next(self._batches)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        posterior = self._model.encode(x)
        z = posterior.sample()
        kl = self._model.prior.kl(posterior, z)
        loss = (self._model.reconstruction(x, z) + kl).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
