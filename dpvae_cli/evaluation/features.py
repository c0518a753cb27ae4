"""Feature extractors: which network looks at images, and what it is shown."""

import hashlib
import math
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from dpvae_cli.evaluation import dinov2, inception
from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.foundation.memory import is_out_of_memory, map_in_chunks
from dpvae_cli.foundation.shapes import Codes

Images = Float[Tensor, "batch channels height width"]
RgbImages = Float[Tensor, "batch 3 height width"]
FeatureMetric = Literal[
    "fid", "fid_lp", "kid", "precision", "precision_lp", "recall", "density", "coverage"
]
OTHER_NAMES = {"fid": "frechet", "kid": "kernel"}
"""What the metrics that are named after Inception are called with another network's features."""


@final
@dataclass(frozen=True)
class FeatureOptions:
    """Which features of images `fid`, `kid` and `precision` compare.

    Args:
        dimensions: of the Inception features: 2048 (None), 768, 192 or 64.
        weights: file of the network's weights. None looks for those of Inception in
            `DPVAE_INCEPTION_WEIGHTS` and torch's hub cache, then downloads; for those of `name` in
            torch's hub cache.
        name: of a network to use in place of Inception: dinov2-vit-s-14, dinov2-vit-b-14 or
            dinov2-vit-l-14, as torch-fidelity (0.4.0 or later) names them.
        features: an exported extractor (.pt2, or TorchScript) to use in place of Inception.
        trust: run the code in `features`.
        reference: .npz of statistics (`mu`, `sigma`) to compare with in place of training images.
        save_reference: .npz to write the statistics compared with to, readable for pytorch-fid.
        repeats: independent sample sets, whose spread gives the standard error of fid.
        download: allow the download of the weights.

    Raises:
        UsageError: the options contradict each other.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.FeatureOptions(dimensions=768).dimensions  # fid is then called fid768
        768
    """

    dimensions: int | None = None
    weights: Path | None = None
    name: str | None = None
    features: Path | None = None
    trust: bool = False
    reference: Path | None = None
    save_reference: Path | None = None
    repeats: int = 1
    download: bool = True

    def __post_init__(self) -> None:
        if self.dimensions not in (None, *inception.DIMENSIONS):
            allowed = ", ".join(map(str, inception.DIMENSIONS))
            raise UsageError(f"--fid-dimensions {self.dimensions}: Inception has {allowed}")
        if self.repeats < 1:
            raise UsageError(f"--repeats {self.repeats}: one set of samples is the least")
        if self.name is not None and (self.features is not None or self.dimensions is not None):
            raise UsageError(
                "--features-name names a network: leave out --features and --fid-dimensions"
            )
        if self.features is None:
            if self.trust:
                raise UsageError("--trust-features is about --features FILE, which is not given")
            return
        if not self.trust:
            raise UsageError(
                f"--features {self.features} holds code, which would run on this machine",
                hint="Add --trust-features if you trust where the file comes from.",
            )
        if self.dimensions is not None or self.weights is not None:
            raise UsageError(
                "--features replaces Inception: leave out --fid-dimensions and --inception-weights"
            )


@final
@dataclass(frozen=True)
class Extractor:
    """A network that maps images to features, with its name and the digest of its file."""

    name: str | None
    """None for Inception, whose metrics have names of their own; else the network's or file's."""
    dimensions: int | None
    """None if not known before a call."""
    file: Path
    digest: str
    device: torch.device
    network: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, images: Images) -> Codes:
        """Return the features of images, on the CPU; images are shown as 8-bit RGB in [0, 1].

        Raises:
            DpvaeError: the images do not have 1 or 3 channels, or the features are not finite rows.
        """
        quantized = quantize(images)

        def compute(chunk: slice) -> Codes:
            rgb = quantized[chunk].to(self.device)
            count = len(rgb)
            # CUDA would round convolutions to TF32, which moves fid in the third digit
            flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            with flags if self.device.type == "cuda" else nullcontext():
                try:
                    found: object = self.network(rgb)
                except (RuntimeError, TypeError, ValueError, AssertionError) as error:
                    if is_out_of_memory(error):
                        raise
                    raise DpvaeError(
                        f"{self.file} cannot be called on {tuple(rgb.shape)}: {error}",
                        hint="It is called on float32 RGB images in [0, 1], `(batch, 3, height, "
                        "width)`, batch after batch of any size: export with a dynamic batch.",
                    ) from error
            shape = tuple(found.shape) if isinstance(found, Tensor) else ()
            # further axes may have length one
            if len(shape) < 2 or shape[0] != count or math.prod(shape[1:]) != max(shape[1:]):
                got = shape if isinstance(found, Tensor) else type(found).__name__
                raise DpvaeError(
                    f"{self.file} gives {got} for {count} images, not one row for each"
                )
            assert isinstance(found, Tensor)
            rows = found.reshape(count, -1).float().cpu()
            if not bool(torch.isfinite(rows).all()):
                raise DpvaeError(f"{self.file} gives features that are not finite")
            return rows

        size = len(quantized)
        return torch.cat(list(map_in_chunks(compute, size, size=size, what="features")))

    @property
    def label(self) -> str:
        """Return file and digest, as results quote them."""
        return f"{self.file.name} (sha256 {self.digest[:16]})"

    def result_name(self, metric: FeatureMetric) -> str:
        """Return what the metric is called with these features; never fid for others' features."""
        kind, _, suffix = metric.partition("_")
        if self.name is None:
            kind += "" if self.dimensions == inception.FULL else str(self.dimensions)
        else:
            kind = f"{OTHER_NAMES.get(kind, kind)}_{self.name}"
        return "_".join(filter(None, (kind, suffix)))


def build_extractor(options: FeatureOptions, device: torch.device) -> Extractor:
    """Return the extractor that the options name.

    Raises:
        MissingError: its file is not there or cannot be used.
    """
    if options.features is not None:
        file = options.features
        if not file.is_file():
            raise MissingError(f"--features {file}: there is no such file")
        name = re.sub(r"[^\w]", "_", file.stem)
        network = load_exported(file, device)
        return Extractor(name, None, file, sha256(file), device, network)
    if options.name is not None:
        file = dinov2.find_dinov2(options.name, options.weights)
        named = dinov2.load_dinov2(options.name, file).to(device)
        dimensions = dinov2.ARCHITECTURES[options.name].width
        name = options.name.replace("-", "_")
        return Extractor(name, dimensions, file, sha256(file), device, named)
    file = inception.weights_file(options.weights, download=options.download)
    dimensions = options.dimensions or inception.FULL
    inception_network = inception.load_inception(file, dimensions).to(device)
    return Extractor(None, dimensions, file, sha256(file), device, inception_network)


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


def quantize(images: Images) -> RgbImages:
    """Return images clipped to [0, 1], rounded to 8 bits, and grey ones repeated to RGB.

    Raises:
        DpvaeError: there are neither 1 nor 3 channels.
    """
    if not is_image(images.shape[1:]):
        raise DpvaeError(f"images of {images.shape[1]} channels: features are of grey or RGB ones")
    levels = (images.detach().float().clamp(0, 1) * 255).round()
    return (levels / 255).expand(-1, 3, -1, -1)


def sha256(file: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
