"""How training steps are executed: number of CPU threads, torch.compile, and running out of memory.

Networks are compiled in place for the duration of training: weights, checkpoints and validation
stay as they are.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE
from dpvae_cli.recipe.schema import CompileName

BACKEND = "inductor"
FLOPS_PER_THREAD = 25e6
"""Floating-point operations of a step, about a third of a millisecond on one core."""


@contextmanager
def execution(model: VAE, x: Examples, batch_size: int, *, is_compiled: bool) -> Iterator[None]:
    """Take training steps inside the block, on batches such as `x` of each rank.

    Raises:
        UsageError: torch.compile fails here, or memory ran out.
    """
    hint = (
        f"Lower it, to training.batch_size={max(2, batch_size // 2)} for example, in another "
        "--run-dir; or continue on another --device. The last checkpoint is untouched."
    )
    with (
        cpu_threads(model, len(x)),
        compiled(model, x, enabled=is_compiled),
        oom_context(f"in a step of training.batch_size={batch_size}", hint=hint, kind=UsageError),
    ):
        yield


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


def should_compile(setting: CompileName, device: torch.device, processes: int) -> bool:
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
