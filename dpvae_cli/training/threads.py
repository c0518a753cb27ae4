"""Choose the number of CPU threads from the size of a training step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dpvae_cli.model import VAE

FLOPS_PER_THREAD = 25e6
"""Floating-point operations of a step, about a third of a millisecond on one core."""


def thread_count(model: VAE, batch_size: int, available: int) -> int:
    """Return how many threads have enough to do; threads synchronise at every operation.

    A step takes about 6 operations per weight and example; a weight of a convolution is used at
    each position, on average of its layers at about a quarter of the pixels.
    """
    positions = max(1, math.prod(model.example_shape[1:]) // 4)
    uses = sum(w.numel() * (positions if w.dim() > 2 else 1) for w in model.parameters())
    return min(max(1, round(6 * batch_size * uses / FLOPS_PER_THREAD)), available)


@contextmanager
def cpu_threads(model: VAE, batch_size: int) -> Iterator[None]:
    """Limit torch to `thread_count` threads inside the block, on a CPU.

    The number follows from model and batch size, so a resumed run computes with the same.
    """
    available = torch.get_num_threads()
    is_cpu = model.device.type == "cpu"
    with limit_threads(thread_count(model, batch_size, available) if is_cpu else available):
        yield


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
