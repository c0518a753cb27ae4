"""How many threads a training step computes with: none that has too little to do.

Threads wait for each other at every operation of a step. On a machine with many cores a model of a
few thousand weights is slower with all of them than with one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpvae_cli.foundation.modes import eval_mode
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE

WORTH_A_THREAD = 25e6
"""Floating-point operations of a step: about a third of a millisecond of one core's work."""
PASSES = 3
"""A step's forward pass, and a backward pass of twice the work."""


@torch.no_grad()
def work(model: VAE, x: Examples) -> int:
    """Return the floating-point operations of a training step: those of products and convolutions.

    Nothing of the model changes.
    """
    with eval_mode(model), FlopCounterMode(display=False) as counted:
        posterior = model.encode(x)
        model.prior.kl(posterior, posterior.mean)
        model.reconstruction(x, posterior.mean)
    return PASSES * int(counted.get_total_flops())


def worthwhile(flops: int, available: int) -> int:
    """Return how many of the available threads have enough to do; at least one."""
    return min(max(1, round(flops / WORTH_A_THREAD)), available)


@contextmanager
def limited(model: VAE, x: Examples) -> Iterator[int]:
    """Compute with as many threads as are worth it inside the block; on a CPU alone.

    The number follows from the model and the batch, so that a run that is gone on with on the same
    machine computes as before. More threads than torch was given (`OMP_NUM_THREADS`) never run.
    """
    before = torch.get_num_threads()
    threads = worthwhile(work(model, x), before) if x.device.type == "cpu" else before
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
