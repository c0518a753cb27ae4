"""How training steps are executed: number of CPU threads, torch.compile, and running out of memory.

Networks are compiled in place for the duration of training: weights, checkpoints and validation
stay as they are.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE
from dpvae_cli.recipe.schema import CompileName

BACKEND = "inductor"
FLOPS_PER_THREAD = 25e6
"""Floating-point operations of a step, about a third of a millisecond on one core."""
Module = TypeVar("Module", bound=nn.Module)


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
        compile_networks(model, x, enabled=is_compiled),
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
def compile_networks(model: VAE, x: Examples, *, enabled: bool) -> Iterator[None]:
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


def data_parallel(
    module: nn.Module, group: ProcessGroup, *, static_graph: bool = True
) -> nn.Module:
    """Return the module under DDP, which averages gradients over the ranks in the backward pass.

    With one process it is the module itself. `static_graph` says that every call uses the same
    parameters; otherwise the unused ones are searched for in each step.
    """
    if group.world_size == 1:
        return module
    return DistributedDataParallel(
        module,
        static_graph=static_graph,
        find_unused_parameters=not static_graph,
        # running statistics follow from the global batch and are equal on all ranks
        forward_sync_buffers=False,
    )


def convert_sync_batch_norm(module: Module, group: ProcessGroup) -> Module:
    """Replace each batch norm in a module by `SyncBatchNorm`; weights and names stay.

    torch.nn.SyncBatchNorm needs a GPU.
    """
    if group.world_size > 1:
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                setattr(module, name, SyncBatchNorm(child, group))
            else:
                convert_sync_batch_norm(child, group)
    return module


@final
class SyncBatchNorm(_BatchNorm):
    """Batch norm with the mean and the variance of the global batch, on any device.

    With m_r and v_r of rank r, all of equal size: mean m of m_r, variance mean of
    v_r + (m_r - m)^2. Gradients flow through both, to the examples of all ranks.

    Source: Ioffe and Szegedy 2015, algorithm 1; variance by Chan et al. 1983.

    Args:
        norm: the batch norm to replace; its parameters and buffers are used.
        group: the processes.
    """

    def __init__(self, norm: _BatchNorm, group: ProcessGroup) -> None:
        nn.Module.__init__(self)
        settings = ("num_features", "eps", "momentum", "affine", "track_running_stats", "training")
        for name in settings:
            setattr(self, name, getattr(norm, name))
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self._group = group

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel, dimension 1."""
        if not (self.training or self.running_mean is None):
            return super().forward(input)
        dimensions = [d for d in range(input.dim()) if d != 1]
        variance, mean = torch.var_mean(input, dimensions, correction=0)
        means, variances = self._group.all_gather(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        if self.training and self.running_mean is not None:
            count = self._group.world_size * input.numel() // input.shape[1]
            self._track(mean.detach(), variance.detach(), count)
        along = (1, -1, *(1,) * (input.dim() - 2))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(shift.view(along), input, scale.view(along))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics, with the unbiased variance, as torch's batch norm does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:  # a cumulative average
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs (batch, channels, ...), got {tuple(input.shape)}")
