"""Optimizer moments as named tensors of a checkpoint."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from dpvae_cli.foundation.errors import CheckpointError
from dpvae_cli.recipe.document import truncate

MOMENT_NAMES = {"step", "exp_avg", "exp_avg_sq"}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments as named tensors: `<parameter index>.<moment>`."""
    return {
        f"{index}.{name}": tensor
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore moments; learning rates and other options come from the recipe.

    Moments get the memory layout of their parameters, whatever the layout in the file: fused
    optimizers iterate over the memory of both in parallel.

    Raises:
        CheckpointError: the tensors are not the moments of these parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        if not re.fullmatch(r"[0-9]{1,9}", index) or name not in MOMENT_NAMES:
            raise _mismatch(f"{truncate(key)!r} is not a moment")
        if int(index) >= len(parameters):
            raise _mismatch(
                f"{key} is of parameter {index}, the model has {len(parameters)} parameters"
            )
        parameter = parameters[int(index)]
        is_step = name == "step" and tensor.numel() == 1
        if not is_step and tensor.shape != parameter.shape:
            raise _mismatch(
                f"{key} is {tuple(tensor.shape)}, its parameter {tuple(parameter.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise _mismatch(f"{key} is not finite")
        state.setdefault(int(index), {})[name] = (
            tensor.clone()
            if is_step
            else torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        )
    if any(moments.keys() != MOMENT_NAMES for moments in state.values()):
        raise _mismatch("some of a parameter's moments are missing")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _mismatch(problem: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's optimizer does not fit: {problem}",
        hint="Train again, or name another checkpoint.",
    )
