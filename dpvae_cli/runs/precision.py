"""What a run computes in: float32, float64, or bf16 for encoder and decoder alone.

The weights a run keeps are float64 or float32. Under bf16 they stay float32, and only what
encoder and decoder compute within one call is bfloat16: their outputs are float32 again before
the posterior, the prior, the likelihood or a regularizer sees them.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, final

import torch
from torch import nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.recipe.schema import PrecisionName

Network = TypeVar("Network", bound=nn.Module)


def check_device_precision(precision: PrecisionName, device: torch.device) -> None:
    """Refuse a device that cannot compute in this precision at all.

    Raises:
        UsageError: names the key and the device.
    """
    if precision == "float64" and device.type == "mps":
        raise UsageError(
            "training.precision is float64, and mps has no float64",
            hint="Add --device cpu, or train with training.precision=float32.",
        )


@final
class Precision:
    """Puts networks and batches into the precision of a run.

    Args:
        name: the recipe's `training.precision`.
        device: where to compute.

    Raises:
        UsageError: the device cannot do it.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        check_device_precision(name, device)
        self._name, self._device = name, device
        self.dtype = torch.float64 if name == "float64" else torch.float32

    def place(self, network: Network) -> Network:
        """Move a network to the device, its floating-point tensors in the type of the weights.

        Weights of two-dimensional convolutions are laid out channels last, which CPUs and GPUs
        compute with faster; their values and names do not change.
        """
        network.to(self._device, self.dtype)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)
        return network

    def batch(self, x: Examples) -> Examples:
        """Return examples in the type of the weights."""
        return x.to(self.dtype)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a training step calls encoder and decoder."""
        if self._name != "bf16":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def __str__(self) -> str:
        """Return the name, and for bf16 how far it reaches."""
        return "bf16 in encoder and decoder, else float32" if self._name == "bf16" else self._name
