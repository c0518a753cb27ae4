"""Data-parallel training: averaged gradients, and batch norm over the global batch."""

from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dpvae_cli.foundation.distributed import ProcessGroup

Module = TypeVar("Module", bound=nn.Module)


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
