"""What processes that share a run make of its modules: averaged gradients, one batch norm for all.

Alone, everything here is the identity.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dpvae_cli.foundation.distributed import ProcessGroup

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")
NEWER_NAME = "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
BUFFERS_SENT = "forward_sync_buffers" if NEWER_NAME else "broadcast_buffers"


@final
class Shared:
    """Calls that train a module: after each one's backward pass gradients are averaged.

    Whatever gradients flow back from must be among what a call returns. Parameters that get no
    gradient are found at the first call.

    Args:
        module: what is trained.
        group: the processes that share it.
        is_steady: every call uses the same parameters; else those of each are looked for anew.
    """

    def __init__(self, module: nn.Module, group: ProcessGroup, *, is_steady: bool = True) -> None:
        self._module = module
        self._parallel: DistributedDataParallel | None = None
        if group.world_size > 1:
            # batch norm's statistics are of the global batch, the same everywhere: nothing to send
            options: dict[str, bool] = {BUFFERS_SENT: False}
            options["static_graph" if is_steady else "find_unused_parameters"] = True
            self._parallel = DistributedDataParallel(_Lent(module), **options)  # type: ignore[arg-type]

    def __call__(self, work: Callable[[Any], Result]) -> Result:
        """Return `work(module)`."""
        if self._parallel is None:
            return work(self._module)
        result: Result = self._parallel(work)
        return result


@final
class _Lent(nn.Module):
    """A module whose forward pass is whatever one likes to do with another."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[nn.Module], Result]) -> Result:
        """Do it."""
        return work(self.module)


def with_global_batch_norm(module: Module, group: ProcessGroup) -> Module:
    """Replace each batch norm in a module by one over the global batch; weights stay as they are.

    torch's own needs a GPU.
    """
    if group.world_size > 1:
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, GlobalBatchNorm):
                setattr(module, name, GlobalBatchNorm(child, group))
            else:
                with_global_batch_norm(child, group)
    return module


@final
class GlobalBatchNorm(_BatchNorm):
    """Batch norm with the mean and the variance of the examples of all processes.

    With m_r and v_r of process r, all of equal size: mean m of m_r, variance mean of
    v_r + (m_r - m)^2. Gradients flow through both, to the examples of all processes.

    Source: Ioffe and Szegedy 2015, algorithm 1; variance by Chan et al. 1983.

    Args:
        norm: what to take the place of; parameters and buffers are its own.
        group: the processes.
    """

    def __init__(self, norm: _BatchNorm, group: ProcessGroup) -> None:
        nn.Module.__init__(self)
        kept = ("num_features", "eps", "momentum", "affine", "track_running_stats", "training")
        for name in kept:
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
            self._track(mean.detach(), variance.detach(), self._group.world_size * _count(input))
        along = (1, -1, *(1,) * (input.dim() - 2))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(shift.view(along), input, scale.view(along))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, the variance without bias, as torch's batch norm does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum
        share = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs (batch, channels, ...), got {tuple(input.shape)}")


def _count(x: Tensor) -> int:
    """Return how many values a channel has."""
    return x.numel() // x.shape[1]
