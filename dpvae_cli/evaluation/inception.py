"""The FID Inception network of pytorch-fid, with weights from a file of ours.

pytorch-fid's constructor fetches its weights by itself, from a URL, into torch's hub cache, and
loads them strictly. Here the constructor is handed a state dict, so that a cluster without network,
a path of the user's own and weights that lack unused blocks all work.
"""

import os
import threading
from pathlib import Path
from typing import final
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dpvae_cli.foundation import download as downloads
from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.randomness import fork_rng
from dpvae_cli.foundation.serialization import read_state_dict
from dpvae_cli.foundation.text import expand_user

VARIABLE = "DPVAE_INCEPTION_WEIGHTS"
FILE = "pt_inception-2015-12-05-6726825d.pth"
HASH_PREFIX = "6726825d"
FULL = 2048
DIMENSIONS = (2048, 768, 192, 64)
BEYOND_768 = ("Mixed_7b.", "Mixed_7c.")
_building = threading.Lock()


def hub_file() -> Path:
    """Return where torch's hub cache has the weights, if it has them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


def weights_file(given: Path | None = None, *, download: bool = True) -> Path:
    """Return the file of weights: as given, else the variable's, the hub cache's, a download.

    Raises:
        MissingError: there is none.
    """
    for source, named in (("--inception-weights", given), (VARIABLE, os.environ.get(VARIABLE))):
        if named:
            path = expand_user(named)
            if path.is_file():
                return path
            raise _missing(f"{source} {path}: there is no such file")
    if (path := hub_file()).is_file():
        return path
    from pytorch_fid.inception import FID_WEIGHTS_URL  # noqa: PLC0415 - slow

    if not download:
        raise _missing("the Inception weights for fid and kid are not there, and --no-download")
    try:
        downloads.download([FID_WEIGHTS_URL], path, checksum=f"sha256:{HASH_PREFIX}")
    except OSError as error:
        raise _missing(
            f"the Inception weights for fid and kid are not there, nor to be had from "
            f"{FID_WEIGHTS_URL} ({error})"
        ) from None
    return path


def _missing(message: str) -> MissingError:
    return MissingError(message, hint=_hint())


def _hint() -> str:
    return (
        f"Name the file {FILE} with --inception-weights or {VARIABLE}, "
        f"or put it where torch's hub cache has it: {hub_file()}."
    )


@final
class Inception(nn.Module):
    """pytorch-fid's network up to the block that gives the wanted features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return features `(batch, dimensions)` of RGB images in [0, 1]: averages over places."""
        [maps] = self.network(images)
        return functional.adaptive_avg_pool2d(maps, (1, 1)).flatten(1)


def load_inception(file: Path, dimensions: int = FULL) -> Inception:
    """Return the network with a file's weights; nothing in the file can execute.

    Weights that stop after Mixed_7a serve up to 768 dimensions.

    Raises:
        MissingError: the file has no such weights, or not those of the wanted dimensions.
    """
    state = read_state_dict(file, hint=_hint())
    if dimensions == FULL and not all(
        any(key.startswith(block) for key in state) for block in BEYOND_768
    ):
        raise MissingError(
            f"{file} has no weights of Mixed_7b and Mixed_7c, which {FULL} dimensions need",
            hint="Take --fid-dimensions 768, or the whole file with --inception-weights.",
        )
    from pytorch_fid import inception as theirs  # noqa: PLC0415 - slow
    from torchvision.models.inception import BasicConv2d  # noqa: PLC0415 - slow

    with fork_rng(0, "inception"):
        blocks = {  # which partial weights lack, and 768 dimensions never reach
            "Mixed_7b": theirs.FIDInceptionE_1(1280),
            "Mixed_7c": theirs.FIDInceptionE_2(2048),
            "fc": nn.Linear(2048, 1008),
        }
        placeholders = {
            f"{name}.{key}": tensor
            for name, block in blocks.items()
            for key, tensor in block.state_dict().items()
        }
        wanted = [theirs.InceptionV3.BLOCK_INDEX_BY_DIM[dimensions]]
        weights = mock.Mock(return_value=placeholders | state)  # in place of what fetches a URL
        try:
            with _building, mock.patch.object(theirs, "load_state_dict_from_url", weights):
                network: nn.Module = theirs.InceptionV3(wanted)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise _missing(f"{file} does not hold the FID Inception weights: {reason}") from error
    # batch norms folded into their convolutions, channels last: on a CPU twice as fast, and the
    # same but for float32 rounding
    for block in network.eval().modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = nn.Identity()
    return Inception(network.to(memory_format=torch.channels_last))
