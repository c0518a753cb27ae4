"""torch.compile of what a training step computes with: where it is asked for, or where it pays.

What is compiled is a twin that shares every weight with the model, so checkpoints, validation and
every later command know nothing of it.
"""

import time
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE
from dpvae_cli.priors import Prior

BACKEND = "inductor"
ROUNDS, STEPS = 3, 5
WORTH_A_TRIAL = 600.0
"""Seconds of training below which `auto` tries nothing: compiling alone may take a minute."""


def compiled(model: VAE) -> VAE:
    """Return a twin with the model's weights; encoder, decoder and any bijection are compiled."""
    prior: Prior = copy(model.prior)  # shares every weight with the one it is a copy of
    for name in () if prior.generation is None else ("to_generation", "to_representation"):
        setattr(prior, name, _fast(getattr(model.prior, name), model.device))
    return VAE(
        encoder=_fast(model.encoder, model.device),
        decoder=_fast(model.decoder, model.device),
        likelihood=model.likelihood,
        prior=prior,
        latent_dim=model.latent_dim,
        example_shape=model.example_shape,
    )


def _fast(what: Any, device: torch.device) -> Any:
    """Return a module or a function, compiled; on a GPU its kernels are replayed as one graph."""
    is_replayed = device.type == "cuda" and BACKEND == "inductor"
    return torch.compile(what, backend=BACKEND, mode="reduce-overhead" if is_replayed else None)


def refuse_failure(model: VAE, x: Examples) -> None:
    """Refuse to compile where it cannot be done, before anything is trained.

    Raises:
        UsageError: says why.
    """
    torch.compiler.reset()  # a process that trains many runs would reach the limit of variants
    try:
        _trial(compiled(deepcopy(model)), x)
    except Exception as error:  # compilers fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"training.compile: torch.compile fails here: {reason}",
            hint="Use training.compile=off; on a CPU torch.compile needs a C++ compiler.",
        ) from error


def pays(model: VAE, x: Examples, *, steps: int) -> bool:
    """Return whether compiling saves more time in the remaining steps than it takes.

    Both ways are measured, turn by turn, on a copy of the model; the first compiled step says what
    compiling takes. A run that will be short anyway is not measured.

    Args:
        model: as it computes in a training step.
        x: a training batch.
        steps: how many are left.
    """
    plain = deepcopy(model)
    _trial(plain, x)
    if steps * _trial(plain, x) < WORTH_A_TRIAL:
        return False
    try:
        quick = compiled(plain)
        cost = _trial(quick, x)
        turns = [[_trial(each, x, times=STEPS) for each in (plain, quick)] for _ in range(ROUNDS)]
    except Exception:  # compilers fail in ways of their own; auto does without
        return False
    as_it_is, as_compiled = (min(seconds) for seconds in zip(*turns, strict=True))
    return bool(steps * (as_it_is - as_compiled) > cost)


def _trial(model: VAE, x: Examples, *, times: int = 1) -> float:
    """Return the seconds of a forward and a backward pass, the mean of several."""
    is_cuda = x.device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if is_cuda else _at_once
    with torch.random.fork_rng(devices=[x.device] if is_cuda else []):
        wait()
        start = time.perf_counter()
        for _ in range(times):
            posterior = model.encode(x)
            z = posterior.sample()
            (model.reconstruction(x, z) + model.prior.kl(posterior, z)).mean().backward()
            model.zero_grad()
        wait()
        return (time.perf_counter() - start) / times


def _at_once() -> None:
    """Wait for nothing: on a CPU work is done when a call returns."""
