"""Which examples make up which batch: a function of seed and iteration, so a resume is exact."""

from typing import final

import torch

from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Indices


@final
class EpochSampler:
    """Cuts batches from one permutation of the data after another.

    Batch i holds positions i B to (i + 1) B of the permutations of epochs 0, 1, 2, ... laid end to
    end, so every batch is full and every example is seen once per epoch.

    Args:
        count: examples in the training split.
        batch_size: examples in a batch.
        seed: the run's seed.
        name: of the random stream; samplers of different names are independent.
        device: where the indices are needed.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, name: str, device: torch.device
    ) -> None:
        self._count, self._batch_size = count, batch_size
        self._seed, self._name, self._device = seed, name, device
        self._permutations: dict[int, Indices] = {}

    def batch(self, iteration: int) -> Indices:
        """Return the positions of the examples of batch `iteration`."""
        epoch, start = divmod(iteration * self._batch_size, self._count)
        first = self._permutation(epoch)[start : start + self._batch_size]
        missing = self._batch_size - len(first)
        if not missing:
            return first
        return torch.cat([first, self._permutation(epoch + 1)[:missing]])

    def _permutation(self, epoch: int) -> Indices:
        if epoch not in self._permutations:
            self._permutations = {e: p for e, p in self._permutations.items() if e == epoch - 1}
            generator = stream(self._seed, self._name, epoch)
            permutation = torch.randperm(self._count, generator=generator)
            self._permutations[epoch] = permutation.to(self._device)
        return self._permutations[epoch]
