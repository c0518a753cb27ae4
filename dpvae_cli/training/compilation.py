"""torch.compile of the networks that a training step computes with.

Modules are compiled in place for the duration of training: weights, checkpoints and validation
stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE
from dpvae_cli.recipe.schema import CompileName

BACKEND = "inductor"


def should_compile(setting: CompileName, device: torch.device, *, processes: int) -> bool:
    """Return what `training.compile` means here: `auto` compiles on a single GPU."""
    return setting == "on" or (setting == "auto" and device.type == "cuda" and processes == 1)


@contextmanager
def compiled(model: VAE, x: Examples, *, enabled: bool) -> Iterator[None]:
    """Compile encoder, decoder and the prior's bijection inside the block.

    A forward and a backward pass of a copy are tried first.

    Raises:
        UsageError: torch.compile fails here.
    """
    if not enabled:
        yield
        return
    torch.compiler.reset()  # a process that trains many runs would reach the limit of variants
    try:
        copy = deepcopy(model)
        _compile(copy)
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            posterior = copy.encode(x)
            z = posterior.sample()
            (copy.reconstruction(x, z) + copy.prior.kl(posterior, z)).mean().backward()
    except Exception as error:  # compilers fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"training.compile: torch.compile fails here: {reason}",
            hint="Use training.compile=off; on a CPU torch.compile needs a C++ compiler.",
        ) from error
    _compile(model)
    try:
        yield
    finally:
        model.encoder._compiled_call_impl = model.decoder._compiled_call_impl = None
        for name in _bijection(model):
            delattr(model.prior, name)


def _compile(model: VAE) -> None:
    """Compile in place; on a GPU the kernels are replayed as one graph."""
    is_replayed = model.device.type == "cuda" and BACKEND == "inductor"
    mode = "reduce-overhead" if is_replayed else None
    model.encoder.compile(backend=BACKEND, mode=mode)
    model.decoder.compile(backend=BACKEND, mode=mode)
    for name in _bijection(model):
        function = torch.compile(getattr(model.prior, name), backend=BACKEND, mode=mode)
        setattr(model.prior, name, function)


def _bijection(model: VAE) -> tuple[str, ...]:
    """Return the names of the prior's maps between its two spaces, where it has two."""
    return () if model.prior.generation is None else ("to_generation", "to_representation")
