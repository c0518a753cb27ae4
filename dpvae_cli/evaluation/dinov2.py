"""DINOv2's features by name, with torch-fidelity's preprocessing and weights from a file.

torch-fidelity takes code and weights of the network from torch.hub. Here its extractor is handed
torchvision's vision transformer, which is the same function once DINOv2's LayerScale is multiplied
into the layer before it, so that nothing is downloaded and no code of a cache runs.
"""

import math
import threading
from functools import partial
from pathlib import Path
from typing import NamedTuple, final
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.serialization import read_state_dict
from dpvae_cli.foundation.text import expand_user

URL = "https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
SIZE = 224
PATCH = 14
OFFSET = 0.1
"""What DINOv2 adds to the number of places when it resizes the embedding of places."""
_building = threading.Lock()


@final
class Architecture(NamedTuple):
    """A vision transformer of DINOv2's with 14 x 14 patches and four times wider MLPs."""

    name: str
    """As DINOv2 calls it."""
    width: int
    layers: int
    heads: int


ARCHITECTURES = {
    "dinov2-vit-s-14": Architecture("dinov2_vits14", 384, 12, 6),
    "dinov2-vit-b-14": Architecture("dinov2_vitb14", 768, 12, 12),
    "dinov2-vit-l-14": Architecture("dinov2_vitl14", 1024, 24, 16),
}
"""By torch-fidelity's names."""


def cached_dinov2(name: str) -> Path:
    """Return where torch's hub cache has the weights, if it has them."""
    file = f"{ARCHITECTURES[name].name}_pretrain.pth"
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def find_dinov2(name: str, given: Path | None = None) -> Path:
    """Return the file of weights: as given, else the hub cache's.

    Raises:
        UsageError: there is no extractor of this name.
        MissingError: there is no such file.
    """
    if name not in ARCHITECTURES:
        raise UsageError(
            f"--features-name {name}: there is no such extractor",
            hint=f"Names: {', '.join(ARCHITECTURES)}.",
        )
    if given is not None:
        path = expand_user(given)
        if path.is_file():
            return path
        message = f"--features-weights {path}: there is no such file"
    elif (path := cached_dinov2(name)).is_file():
        return path
    else:
        message = f"the weights of {name} are not in torch's hub cache: {path}"
    raise MissingError(message, hint=_hint(name))


def _hint(name: str) -> str:
    url = URL.format(name=ARCHITECTURES[name].name)
    return f"Download {url} and name the file with --features-weights FILE."


@final
class Dinov2(nn.Module):
    """torch-fidelity's extractor, shown RGB images in [0, 1]."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised class token, `(batch, width)`, of images resized to 224 x 224."""
        [features] = self.extractor((255 * images).round().to(torch.uint8))
        rows: Tensor = features
        return rows


def load_dinov2(name: str, file: Path) -> Dinov2:
    """Return the network with a file's weights; nothing in the file can execute.

    Raises:
        MissingError: torch-fidelity is not installed, or the file has no such weights.
    """
    try:
        from torch_fidelity.feature_extractor_dinov2 import (  # noqa: PLC0415 - an optional extra
            FeatureExtractorDinoV2,
        )
    except ImportError:
        raise MissingError(
            "--features-name needs torch-fidelity, version 0.4.0 or later",
            hint="pip install 'dpvae-cli[fidelity]'",
        ) from None
    state = read_state_dict(file, hint=_hint(name))
    try:
        network = vision_transformer(ARCHITECTURES[name], state)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MissingError(
            f"{file} does not hold the weights of {name}: {reason}", hint=_hint(name)
        ) from error
    with _building, mock.patch.object(torch.hub, "load", return_value=network):
        return Dinov2(FeatureExtractorDinoV2(name, ["dinov2"]))


def vision_transformer(architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    """Return torchvision's network of 224 x 224 images with DINOv2's weights.

    Raises:
        KeyError, ValueError, RuntimeError: the weights are others.
    """
    from torchvision.models import VisionTransformer  # noqa: PLC0415 - slow

    with torch.device("meta"):
        network: nn.Module = VisionTransformer(
            image_size=SIZE,
            patch_size=PATCH,
            num_layers=architecture.layers,
            num_heads=architecture.heads,
            hidden_dim=architecture.width,
            mlp_dim=4 * architecture.width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
    network.heads = nn.Identity()
    rest = {name: tensor.float() for name, tensor in state.items() if name != "mask_token"}
    weights = {
        "class_token": rest.pop("cls_token"),
        "encoder.pos_embedding": resize_embedding(rest.pop("pos_embed"), SIZE // PATCH),
    }
    for kind in ("weight", "bias"):
        weights[f"conv_proj.{kind}"] = rest.pop(f"patch_embed.proj.{kind}")
        weights[f"encoder.ln.{kind}"] = rest.pop(f"norm.{kind}")
    for index in range(architecture.layers):
        old, new = f"blocks.{index}", f"encoder.layers.encoder_layer_{index}"
        scales = {
            "attn.proj": rest.pop(f"{old}.ls1.gamma"),
            "mlp.fc2": rest.pop(f"{old}.ls2.gamma"),
        }
        for kind in ("weight", "bias"):
            for theirs, ours in (
                ("norm1.", "ln_1."),
                ("attn.qkv.", "self_attention.in_proj_"),
                ("attn.proj.", "self_attention.out_proj."),
                ("norm2.", "ln_2."),
                ("mlp.fc1.", "mlp.0."),
                ("mlp.fc2.", "mlp.3."),
            ):
                tensor = rest.pop(f"{old}.{theirs}{kind}")
                scale = scales.get(theirs[:-1])
                if scale is not None:  # gamma * (W a + b) has weights gamma W and gamma b
                    tensor = tensor * (scale.unsqueeze(1) if tensor.ndim == 2 else scale)
                weights[f"{new}.{ours}{kind}"] = tensor
    if rest:
        raise ValueError(f"it has {', '.join(sorted(rest))} as well")
    network.load_state_dict(weights, assign=True)
    return network


def resize_embedding(embedding: Tensor, side: int) -> Tensor:
    """Return the embedding of places, `(1, 1 + places, width)`, for a grid of `side` x `side`.

    Bicubic, as DINOv2 does it: the factor is that of `side` + 0.1 places.
    """
    count, width = embedding.shape[1:]
    old = math.isqrt(count - 1)
    grid = embedding[:, 1:].reshape(1, old, old, width).permute(0, 3, 1, 2)
    if old != side:
        factor = (side + OFFSET) / old
        grid = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([embedding[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
