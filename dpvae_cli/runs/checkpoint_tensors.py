"""The named tensors of a checkpoint: weights, moments of optimizers, and units of the data."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dpvae_cli.data.units import Standardization, Units
from dpvae_cli.foundation.errors import CheckpointError
from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.foundation.serialization import expect_type
from dpvae_cli.recipe.document import truncate

RETRAIN_HINT = "Train again, or name another checkpoint."
MOMENT_NAMES = {"step", "exp_avg", "exp_avg_sq"}


def part_tensors(part: nn.Module | Optimizer) -> Mapping[str, Tensor]:
    """Return the tensors of a module or an optimizer by name."""
    return part.state_dict() if isinstance(part, nn.Module) else optimizer_tensors(part)


def load_part(part: nn.Module | Optimizer, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load what `part_tensors` returned.

    Raises:
        CheckpointError: names or shapes differ.
    """
    if isinstance(part, Optimizer):
        load_optimizer(part, tensors)
    else:
        load_state_dict(part, tensors, what)


def load_state_dict(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load a module's tensors strictly.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise mismatch_error(what, str(error)) from error


def mismatch_error(what: str, reason: str) -> CheckpointError:
    """Return the error about a part of a checkpoint that is not of its recipe."""
    return CheckpointError(
        f"the checkpoint's {what} does not fit its recipe: {reason}", hint=RETRAIN_HINT
    )


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments as named tensors: `<parameter index>.<moment>`."""
    return {
        f"{index}.{name}": tensor
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
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
        hint=RETRAIN_HINT,
    )


def units_tensors(units: Units) -> dict[str, Tensor]:
    """Return the mean and the standard deviation of the data, where it was standardized."""
    constants = {} if units.standardization is None else units.standardization._asdict()
    return {f"data.{name}": tensor for name, tensor in constants.items()}


def load_units(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, shape: tuple[int, ...]
) -> Units:
    """Return the units in the tensors and facts of a checkpoint of examples of this shape.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are malformed.
    """
    standardization = value_range = None
    if tensors:
        mean, deviation = tensors["mean"].double(), tensors["deviation"].double()
        if mean.shape != shape or deviation.shape != shape:
            raise ValueError(f"mean {tuple(mean.shape)} and deviation {tuple(deviation.shape)}")
        if not (mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()):
            raise ValueError("mean or deviation is not finite and positive")
        standardization = Standardization(mean, deviation)
    if facts["data_range"] is not None:
        low, high = map(float, expect_type(list, facts["data_range"]))
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"range {low} to {high}")
        value_range = low, high
    columns = (sanitize_line(expect_type(str, name)) for name in facts.get("data_columns", ()))
    return Units(standardization, value_range, tuple(columns))
