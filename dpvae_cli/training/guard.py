"""Stop at the first value that is not finite, before it reaches a weight or a checkpoint."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.errors import DivergedError

HINT = (
    "Lower training.learning_rate, set training.gradient_clip, or raise likelihood.scale; "
    "the last checkpoint is untouched and --resume starts from it."
)
LISTED = 3


@final
class FiniteGuard:
    """Watches the losses of every step.

    On a CPU it reads each loss and raises at once. On an accelerator reading would stall the
    queue: a flag on the device makes the fused optimizers skip every update from the first bad
    step on, and `read` (at logging steps and before every checkpoint write) raises then.

    A gradient that is not finite while the loss is shows in the weights it was added to, and in the
    next step's loss: what went wrong first is then named by looking at them, which costs nothing
    while all is well.

    Args:
        optimizers: fused optimizers; their `found_inf` flag is the accelerator's.
        device: where the losses live.
        deferred: None means by device; a test may force either way.
        watched: what has the weights.
    """

    def __init__(
        self,
        optimizers: list[torch.optim.Optimizer],
        device: torch.device,
        *,
        deferred: bool | None = None,
        watched: Sequence[nn.Module] = (),
    ) -> None:
        self._deferred = device.type != "cpu" if deferred is None else deferred
        self._watched = tuple(watched)
        self._flag = torch.zeros((), device=device)
        self._first = torch.full((), -1, device=device, dtype=torch.long)
        self._first_values: dict[str, Tensor] = {}
        if self._deferred:
            for optimizer in optimizers:
                optimizer.found_inf = self._flag  # type: ignore[attr-defined]

    def watch(self, iteration: int, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Look at one step's loss before the update; the terms are named if it is not finite.

        Raises:
            DivergedError: on a CPU, if the loss is not finite.
        """
        if self._deferred:
            self._note(iteration, {"loss": loss, **terms})
        elif not math.isfinite(loss.item()):
            values = {"loss": loss, **terms}
            raise self._diverged(
                iteration, {name: v.detach().mean().item() for name, v in values.items()}
            )

    def read(self) -> None:
        """Raise if a bad step was noted on the device; one synchronisation.

        Raises:
            DivergedError: names the first bad step and its terms.
        """
        first = int(self._first) if self._deferred else -1
        if first >= 0:
            raise self._diverged(first, {name: float(v) for name, v in self._first_values.items()})

    def _note(self, iteration: int, losses: Mapping[str, Tensor]) -> None:
        values = torch.stack([loss.detach().mean().float() for loss in losses.values()])
        bad = ~torch.isfinite(values).all()
        is_first = bad & (self._first < 0)
        for name, value in zip(losses, values.unbind(), strict=True):
            noted = self._first_values.get(name, value)
            self._first_values[name] = torch.where(is_first, value, noted)
        self._first = torch.where(is_first, iteration, self._first)
        self._flag.copy_(torch.maximum(self._flag, bad.float()))

    def _diverged(self, iteration: int, values: Mapping[str, float]) -> DivergedError:
        """Return the error for a loss that is not finite: what went wrong first, and all values."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        terms = [name for name in bad if name != "loss"] or ["loss"]
        cause = f"{' and '.join(terms)} not finite"
        if origin := self._origin():
            cause = f"{origin} after iteration {iteration - 1}, then {cause}"
        return DivergedError(
            f"training diverged at iteration {iteration}: {cause} ({shown})", hint=HINT
        )

    def _origin(self) -> str | None:
        """Return the gradients, else the weights, that went wrong before the loss did.

        Later updates are not done, so what is not finite here became so by the last one. Where
        losses are read late, gradients are those of later steps and tell nothing.
        """
        named = [pair for module in self._watched for pair in module.named_parameters()]
        weights = [name for name, weight in named if not _is_finite(weight)]
        gradients = [
            name
            for name, weight in named
            if weight.grad is not None and not _is_finite(weight.grad)
        ]
        if weights and gradients and not self._deferred:
            return f"gradient of {_listed(gradients)} not finite"
        return f"weight {_listed(weights)} not finite" if weights else None


def clip_gradients(parameters: Iterable[Tensor], largest: float | None) -> None:
    """Scale gradients down so that their global norm is `largest` at most; None leaves them.

    g <- g min(1, largest / (|g| + 1e-6)), as `torch.nn.utils.clip_grad_norm_` but for a norm that
    is not finite: it changes nothing, so that it can be told which gradient is to blame. The host
    does not wait for the device.
    """
    if largest is None:
        return
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    share = (largest / (norm + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, torch.where(torch.isfinite(norm), share, 1.0))


def refuse_bad_weights(module: nn.Module, iteration: int) -> None:
    """Raise if a weight or a buffer (batch norm's running statistics) is not finite.

    Called before a checkpoint is written.

    Raises:
        DivergedError: names the weight or buffer.
    """
    for what, named in (("weight", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if tensor.is_floating_point() and not _is_finite(tensor):
                raise DivergedError(
                    f"{what} {name} is not finite after iteration {iteration}", hint=HINT
                )


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
