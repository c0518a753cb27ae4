"""A feature extractor of the user's own, exported to a file that holds its code."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dpvae_cli.foundation.errors import MissingError


def load_exported(file: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the network of a .pt2 (torch.export) or TorchScript file. Its code will run.

    Raises:
        MissingError: the file is neither.
    """
    try:
        if file.suffix == ".pt2":
            return torch.export.load(file).module().to(device)
        with warnings.catch_warnings():
            # the deprecation of TorchScript concerns those who write such files
            for category in (FutureWarning, DeprecationWarning):
                warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
            network: Callable[[Tensor], Tensor] = torch.jit.load(file, map_location=device).eval()
            return network
    except Exception as error:  # the file's own code may raise anything
        raise MissingError(
            f"{file} cannot be read as an exported network: {error}",
            hint="Write it with torch.export.save (name.pt2) or torch.jit.save (name.pt).",
        ) from error
