"""Stop at the first value that is not finite, before it reaches a weight or a checkpoint."""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.errors import DivergedError

HINT = (
    "Lower training.learning_rate, or raise likelihood.scale; "
    "the last checkpoint is untouched and --resume starts from it."
)


@final
class FiniteGuard:
    """Watches the losses of every step.

    On a CPU it reads each loss and raises at once. On an accelerator reading would stall the
    queue: a flag on the device makes the fused optimizers skip every update from the first bad
    step on, and `read` (at logging steps and before every checkpoint write) raises then.

    Args:
        optimizers: fused optimizers; their `found_inf` flag is the accelerator's.
        device: where the losses live.
        deferred: None means by device; a test may force either way.
    """

    def __init__(
        self,
        optimizers: list[torch.optim.Optimizer],
        device: torch.device,
        *,
        deferred: bool | None = None,
    ) -> None:
        self._deferred = device.type != "cpu" if deferred is None else deferred
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
            raise _diverged(
                iteration, {name: v.detach().mean().item() for name, v in values.items()}
            )

    def read(self) -> None:
        """Raise if a bad step was noted on the device; one synchronisation.

        Raises:
            DivergedError: names the first bad step and its terms.
        """
        first = int(self._first) if self._deferred else -1
        if first >= 0:
            raise _diverged(first, {name: float(v) for name, v in self._first_values.items()})

    def _note(self, iteration: int, losses: Mapping[str, Tensor]) -> None:
        values = torch.stack([loss.detach().mean().float() for loss in losses.values()])
        bad = ~torch.isfinite(values).all()
        is_first = bad & (self._first < 0)
        for name, value in zip(losses, values.unbind(), strict=True):
            noted = self._first_values.get(name, value)
            self._first_values[name] = torch.where(is_first, value, noted)
        self._first = torch.where(is_first, iteration, self._first)
        self._flag.copy_(torch.maximum(self._flag, bad.float()))


def refuse_bad_weights(module: nn.Module, iteration: int) -> None:
    """Raise if a weight or a buffer (batch norm's running statistics) is not finite.

    Called before a checkpoint is written.

    Raises:
        DivergedError: names the weight or buffer.
    """
    for what, named in (("weight", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DivergedError(
                    f"{what} {name} is not finite after iteration {iteration}", hint=HINT
                )


def _diverged(iteration: int, values: Mapping[str, float]) -> DivergedError:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return DivergedError(
        f"training diverged at iteration {iteration}: {', '.join(bad)} not finite ({shown})",
        hint=HINT,
    )
