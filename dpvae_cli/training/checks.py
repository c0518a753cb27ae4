"""What is checked: that data, batch size and processes fit, and that losses are finite."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dpvae_cli.data import Dataset
from dpvae_cli.foundation.allocation import FLOAT32, SMALLER_HINT
from dpvae_cli.foundation.distributed import ProcessGroup
from dpvae_cli.foundation.errors import DivergedError, UsageError
from dpvae_cli.foundation.memory import check_fits_in_memory
from dpvae_cli.model import VAE
from dpvae_cli.recipe import Recipe
from dpvae_cli.recipe.dump import to_yaml
from dpvae_cli.recipe.schema import MIN_BATCH_SIZE
from dpvae_cli.regularizers import Term

CHECKED_EXAMPLES, CHUNK_SIZE = 10_000, 500
"""Training examples that must fit the likelihood, and how many of them are in memory at a time."""
HINT = (
    "Lower training.learning_rate, set training.gradient_clip, or raise likelihood.scale; "
    "the last checkpoint is untouched and --resume starts from it."
)
MAX_LISTED = 3


def check_data(recipe: Recipe, dataset: Dataset, *, processes: int = 1) -> None:
    """Check that likelihood and batch size fit the data, and that processes can share a batch.

    Raises:
        UsageError: says which does not and what to change.
    """
    batch_size, examples = recipe.training.batch_size, len(dataset.train)
    for start in range(0, min(CHECKED_EXAMPLES, examples), CHUNK_SIZE):
        chunk = dataset.train.examples(slice(start, min(start + CHUNK_SIZE, CHECKED_EXAMPLES)))
        if (complaint := recipe.likelihood.validation_error(chunk)) is not None:
            raise UsageError(f"likelihood: {complaint}")
    if batch_size <= examples:
        return
    largest = examples // processes * processes
    if largest < MIN_BATCH_SIZE:
        needed = max(MIN_BATCH_SIZE, processes)
        hint = f"Train on {needed} examples or more: that many make the smallest batch."
    else:
        hint = f"Add training.batch_size={largest} or less."
    raise UsageError(
        f"training.batch_size {batch_size} is more than the {examples} training examples", hint=hint
    )


def check_divisible(batch_size: int, processes: int) -> None:
    """Check that the processes can share a global batch equally.

    Raises:
        UsageError: names the key and sizes that work.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        options = [str(n) for n in (below, below + processes) if n]
        raise UsageError(
            f"training.batch_size {batch_size} cannot be divided among {processes} processes: it "
            "is the size of the global batch",
            hint=f"Add training.batch_size={' or '.join(options)}, or start a number of processes "
            "that divides it.",
        )


def check_ranks_agree(
    group: ProcessGroup, recipe: Recipe, facts: Mapping[str, Any], iteration: int
) -> None:
    """Check that all ranks have the same recipe, data and state.

    Raises:
        UsageError: says what differs.
    """
    state = {
        "recipe": to_yaml(recipe),
        "training data": facts["data_fingerprint"],
        "iteration": iteration,
    }
    for what, value in state.items():
        if len(set(group.all_gather_object(value))) > 1:
            raise UsageError(
                f"the processes of this run do not have the same {what}",
                hint="Give all of them the same command, the same data, and a run folder that "
                "all machines see.",
            )


def check_training_memory(model: VAE, regularizer: nn.Module, batch_size: int) -> None:
    """Check that a training step fits into memory, by a lower bound of what it holds.

    That is each weight with its gradient and Adam's two moments, and for each example of the batch
    its values and an output of every unit, with gradients.

    Raises:
        UsageError: says how much it needs.
    """
    weights = [*model.parameters(), *regularizer.parameters()]
    outputs = sum(weight.shape[0] for weight in weights if weight.dim() > 1)
    values = math.prod(model.example_shape)
    numbers = 4 * sum(weight.numel() for weight in weights) + 2 * batch_size * (values + outputs)
    what = f"training with training.batch_size={batch_size:,}"
    check_fits_in_memory(what, FLOAT32 * numbers, hint=SMALLER_HINT)


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
                    if tensor.is_floating_point() and not _is_finite(tensor):
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
        weights = [name for name, weight in parameters.items() if not _is_finite(weight)]
        gradients = [
            name
            for name, weight in parameters.items()
            if weight.grad is not None and not _is_finite(weight.grad)
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


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
