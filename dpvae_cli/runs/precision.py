"""What a run computes in: float32, float64, or bf16 for encoder and decoder alone.

The weights a run keeps are float64 or float32. Under bf16 they stay float32, and only what
encoder and decoder compute within one call is bfloat16: their outputs are float32 again before
the posterior, the prior, the likelihood or a regularizer sees them.
"""

from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.mathematics.gaussian import DiagonalGaussian
from dpvae_cli.model import VAE
from dpvae_cli.recipe.schema import PrecisionName

Network = TypeVar("Network", bound=nn.Module)


def refuse_device(precision: PrecisionName, device: torch.device) -> None:
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
        refuse_device(name, device)
        self._name, self._device = name, device
        self.dtype = torch.float64 if name == "float64" else torch.float32

    def placed(self, network: Network) -> Network:
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

    def computing(self, model: VAE) -> VAE:
        """Return the model as a training step calls it: itself, or its twin under autocast.

        The twin shares every module with the model, so that training one trains the other.
        """
        if self._name != "bf16":
            return model
        return VAE(
            encoder=Autocast(model.encoder, self._device.type),
            decoder=Autocast(model.decoder, self._device.type),
            likelihood=model.likelihood,
            prior=model.prior,
            latent_dim=model.latent_dim,
            example_shape=model.example_shape,
        )

    def __str__(self) -> str:
        """Return the name, and for bf16 how far it reaches."""
        return "bf16 in encoder and decoder, else float32" if self._name == "bf16" else self._name


@final
class Autocast(nn.Module):
    """Runs a network in bfloat16 and returns float32; its own weights stay as they are."""

    def __init__(self, network: nn.Module, device_type: str) -> None:
        super().__init__()
        self.network, self._device_type = network, device_type

    def forward(self, x: Tensor) -> Any:
        """Return what the network returns, in float32."""
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            output = self.network(x)
        return _float32(output)


def _float32(output: Any) -> Any:
    if isinstance(output, DiagonalGaussian):
        return DiagonalGaussian(output.mean.float(), output.log_variance.float())
    if isinstance(output, tuple | list):  # a pair (mean, log_variance)
        return tuple(_float32(part) for part in output)
    return output.float()
