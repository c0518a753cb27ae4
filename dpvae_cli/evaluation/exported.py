"""A feature extractor of the user's own, exported to a file that holds its code."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dpvae_cli.foundation.errors import MissingError


def load(file: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the network of a .pt2 (torch.export) or TorchScript file. Its code will run.

    Raises:
        MissingError: the file is neither.
    """
    try:
        return _exported(file, device) if file.suffix == ".pt2" else _scripted(file, device)
    except Exception as error:  # whatever the file's own code raises
        raise MissingError(
            f"{file} cannot be read as an exported network: {error}",
            hint="Write it with torch.export.save (name.pt2) or torch.jit.save (name.pt).",
        ) from error


def _exported(file: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    network: Callable[[Tensor], Tensor] = torch.export.load(file).module().to(device)
    return network


def _scripted(file: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        # that TorchScript is on its way out concerns whoever writes such files
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
        network: Callable[[Tensor], Tensor] = torch.jit.load(file, map_location=device).eval()
    return network
