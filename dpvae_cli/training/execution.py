"""How training steps are executed: number of CPU threads, torch.compile, and running out of memory.

Networks are compiled in place for the duration of training: weights, checkpoints and validation
stay as they are.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import DivergedError, UsageError
from dpvae_cli.foundation.memory import oom_context
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.model import VAE
from dpvae_cli.recipe.schema import CompileName
from dpvae_cli.regularizers import Term

BACKEND = "inductor"
FLOPS_PER_THREAD = 25e6
"""Floating-point operations of a step, about a third of a millisecond on one core."""
Module = TypeVar("Module", bound=nn.Module)
HINT = (
    "Lower training.learning_rate, set training.gradient_clip, or raise likelihood.scale; "
    "the last checkpoint is untouched and --resume starts from it."
)
MAX_LISTED = 3


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
        compile_networks(model, x) if is_compiled else nullcontext(),
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
def compile_networks(model: VAE, x: Examples) -> Iterator[None]:
    """Compile encoder, decoder and the prior's bijection inside the block.

    A forward and a backward pass of a copy are tried first.

    Raises:
        UsageError: torch.compile fails here.
    """
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


@final
class FiniteCheck:
    """Checks the losses of every step, and weights and buffers before they are used or saved.

    On a CPU each loss is read at once. On an accelerator reading would stall the queue: a flag on
    the device makes the fused optimizers skip every update from the first bad step on, and the next
    check (at logging steps, validations and checkpoints) raises.

    A gradient that is not finite while the loss is finite shows in the weights, and in the next
    step's loss: only then the weights are searched for what went wrong first.

    Args:
        parts: modules in training and copies of them, and fused optimizers, whose `found_inf` flag
            is the accelerator's.
        device: of the losses.
        deferred: read losses late; None decides by device.
    """

    def __init__(
        self,
        parts: Iterable[nn.Module | Optimizer],
        device: torch.device,
        *,
        deferred: bool | None = None,
    ) -> None:
        parts = list(parts)
        self._modules = [part for part in parts if isinstance(part, nn.Module)]
        self._deferred = device.type != "cpu" if deferred is None else deferred
        self._flag = torch.zeros((), device=device)
        self._first = torch.full((), -1, device=device, dtype=torch.long)
        self._first_values: dict[str, Tensor] = {}
        if self._deferred:
            for optimizer in (part for part in parts if isinstance(part, Optimizer)):
                optimizer.found_inf = self._flag  # type: ignore[attr-defined]

    def check_loss(self, iteration: int, loss: Tensor, terms: Mapping[str, Term]) -> None:
        """Check one step's loss before the update; its terms are named if it is not finite.

        Raises:
            DivergedError: on a CPU, if the loss is not finite.
        """
        if not self._deferred:
            if not math.isfinite(loss.item()):
                raise self._diverged(iteration, _means(loss, terms))
            return
        losses = _means(loss, terms)
        means = torch.stack([mean.float() for mean in losses.values()])
        is_bad = ~torch.isfinite(means).all()
        is_first = is_bad & (self._first < 0)
        for name, mean in zip(losses, means.unbind(), strict=True):
            self._first_values[name] = torch.where(
                is_first, mean, self._first_values.get(name, mean)
            )
        self._first = torch.where(is_first, iteration, self._first)
        self._flag.copy_(torch.maximum(self._flag, is_bad.float()))

    def check_past_losses(self) -> None:
        """Raise if a bad step was noted on the device; one synchronisation.

        Raises:
            DivergedError: names the first bad step and its terms.
        """
        first = int(self._first) if self._deferred else -1
        if first >= 0:
            raise self._diverged(first, self._first_values)

    def check_weights(self, iteration: int) -> None:
        """Raise if a bad step was noted, or a weight or a buffer is not finite.

        Raises:
            DivergedError: names the step, or the weight or buffer.
        """
        self.check_past_losses()
        for module in self._modules:
            named = {"weight": module.named_parameters(), "buffer": module.named_buffers()}
            for kind, tensors in named.items():
                for name, tensor in tensors:
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        raise DivergedError(
                            f"{kind} {name} is not finite after iteration {iteration}", hint=HINT
                        )

    def _diverged(self, iteration: int, means: Mapping[str, Tensor]) -> DivergedError:
        """Return the error: what went wrong first, and all values.

        Later updates are skipped, so a weight that is not finite became so in the last update.
        Where losses are read late, gradients belong to later steps.
        """
        values = {name: float(mean) for name, mean in means.items()}
        bad_terms = [name for name, v in values.items() if not math.isfinite(v) and name != "loss"]
        cause = f"{' and '.join(bad_terms or ['loss'])} not finite"
        parameters = {k: v for module in self._modules for k, v in module.named_parameters()}
        weights = [name for name, weight in parameters.items() if not torch.isfinite(weight).all()]
        gradients = [
            name
            for name, weight in parameters.items()
            if weight.grad is not None and not torch.isfinite(weight.grad).all()
        ]
        if weights:
            is_gradient = gradients and not self._deferred
            names = gradients if is_gradient else weights
            origin = f"{'gradient of' if is_gradient else 'weight'} {', '.join(names[:MAX_LISTED])}"
            if len(names) > MAX_LISTED:
                origin += f" and {len(names) - MAX_LISTED} more"
            cause = f"{origin} not finite after iteration {iteration - 1}, then {cause}"
        listing = ", ".join(f"{name} {value:g}" for name, value in values.items())
        return DivergedError(
            f"training diverged at iteration {iteration}: {cause} ({listing})", hint=HINT
        )


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale gradients by min(1, max_norm / (|g| + 1e-6)), without waiting for the device.

    Unlike `torch.nn.utils.clip_grad_norm_`, a norm that is not finite changes nothing, so that the
    gradient to blame can be named.
    """
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, torch.where(torch.isfinite(norm), scale, 1.0))


def _means(loss: Tensor, terms: Mapping[str, Term]) -> dict[str, Tensor]:
    values = {"loss": loss} | {name: term.value for name, term in terms.items()}
    return {name: value.detach().mean() for name, value in values.items()}
