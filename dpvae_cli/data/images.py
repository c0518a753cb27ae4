"""Images in a folder: find them, and read one as a square of bytes."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dpvae_cli.foundation.errors import MissingError, UsageError

Colour = Literal["rgb", "grey"]
Binarize = Literal["threshold", "static", "dynamic"]
ImageArray = UInt8[np.ndarray, "channels size size"]

# Named one by one: Pillow would also start other programs for some formats (EPS: Ghostscript).
# Icons are left out. TGA has no mark at its beginning, so it is tried last.
FORMATS = (
    *("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"),
    *("HEIF", "JXL", "DDS", "IM", "MSP", "PCX", "PSD", "QOI", "SGI", "SUN", "XBM", "XPM", "TGA"),
)
"""Formats that are read where this Pillow has a decoder for them, or a plugin registered one."""
PLUGIN = "pillow_heif"
HEIC = frozenset((".heic", ".heif", ".hif"))
MAX_PIXELS = 89_478_485
"""An image with more pixels is taken for a decompression bomb (Pillow warns from here on)."""
LISTED = 8
"""Endings of other files that a remark names."""
OUTPUTS = (
    *(("recipe.yaml", "checkpoint.pt"), ("recipe.yaml", "environment.json")),
    ("study.yaml", "figures"),
)
"""What lies together in a run folder, or in that of a study."""


@final
@dataclass(frozen=True)
class ImageTransform:
    """What is done to every image: centre square of side `crop`, resized, in that colour.

    Args:
        crop: pixels; None takes the largest square that fits.
        size: side of the result, pixels.
        colour: rgb or grey.
        max_pixels: of an image; a larger one is taken for a decompression bomb.
        binarize: what is done to the values of examples; `read_image` does not.
    """

    crop: int | None
    size: int
    colour: Colour
    max_pixels: int = MAX_PIXELS
    binarize: Binarize | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a prepared image."""
        return (3 if self.colour == "rgb" else 1, self.size, self.size)


@final
class UnreadableImageError(Exception):
    """A file is not an image, is damaged, or is a decompression bomb; the text says which."""


@final
class CropError(UsageError):
    """An image is smaller than the square to be cut out of it."""

    def __init__(self, name: str, crop: int, *, width: int, height: int) -> None:
        super().__init__(
            f"data.crop={crop} is more than {name} has: it is {width}x{height} pixels",
            hint=f"Give data.crop={min(width, height)} or less.",
        )
        self.name, self.crop, self.width, self.height = name, crop, width, height


@final
@dataclass(frozen=True)
class ImageListing:
    """The images of a folder, by sorted names relative to it, and the endings of other files.

    `outputs` are folders of runs and studies in it, whose images are not data.
    """

    names: list[str]
    others: Mapping[str, int]
    outputs: Sequence[str] = ()

    @property
    def remark(self) -> str | None:
        """Return what is left out: how many files of which endings, and folders of runs."""
        remarks = []
        if self.others:
            ranked = sorted(self.others.items(), key=lambda pair: (-pair[1], pair[0]))
            counts = [f"{count:,} {end or 'without an ending'}" for end, count in ranked[:LISTED]]
            if len(ranked) > LISTED:
                counts.append(f"{sum(count for _, count in ranked[LISTED:]):,} others")
            left_out = f"files left out, which do not have an image suffix: {', '.join(counts)}"
            if HEIC & set(self.others):
                left_out += " (HEIC images are read where the package pillow-heif is installed)"
            remarks.append(left_out)
        if self.outputs:
            more = f" and {len(self.outputs) - LISTED:,} more" * (len(self.outputs) > LISTED)
            remarks.append(f"folders of dpvae left out: {', '.join(self.outputs[:LISTED])}{more}")
        return "; ".join(remarks) or None


@cache
def formats() -> frozenset[str]:
    """Return the formats that are read here, after Pillow and its plugin have registered theirs."""
    with suppress(ImportError):
        import_module(PLUGIN).register_heif_opener()
    Image.init()
    return frozenset(format for format in FORMATS if format in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """Return the endings of files that are read, in lower case."""
    known = formats() | {"MPO"}  # which the decoder of JPEG reads
    return frozenset(suffix for suffix, format in Image.EXTENSION.items() if format in known)


def find_images(folder: Path) -> ImageListing:
    """Find the files in a folder that have an image suffix, and count the others by their endings.

    Subfolders are searched, but for run folders and studies of dpvae, whose images are samples;
    links to folders are followed, each folder once. Names that begin with a dot are neither.

    Raises:
        MissingError: there are no images, or a folder cannot be listed.
    """
    names, others, outputs = [], Counter[str](), list[Path]()
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise error

    try:
        for base, subfolders, files in os.walk(folder, onerror=fail, followlinks=True):
            paths = [Path(base, name) for name in subfolders if not name.startswith(".")]
            subfolders.clear()
            status = Path(base).stat()
            if (status.st_dev, status.st_ino) in seen:  # a link back to where we are
                continue
            seen.add((status.st_dev, status.st_ino))
            for path in sorted(paths):
                if any(all((path / name).exists() for name in marks) for marks in OUTPUTS):
                    outputs.append(path)
                else:
                    subfolders.append(path.name)
            for path in (Path(base, name) for name in files if not name.startswith(".")):
                if path.suffix.lower() in suffixes():
                    names.append(path.relative_to(folder).as_posix())
                elif path.is_file():
                    others[path.suffix.lower()] += 1
    except OSError as error:
        raise MissingError(
            f"{error.filename or folder} cannot be listed: {error.strerror or error}"
        ) from None
    left_out = [path.relative_to(folder).as_posix() for path in sorted(outputs)]
    listing = ImageListing(sorted(names), others, left_out)
    if not names:
        remark = "" if listing.remark is None else f"; {listing.remark}"
        raise MissingError(
            f"{folder} holds no images{remark}",
            hint=f"They end in {', '.join(sorted(suffixes()))}.",
        )
    return listing


@contextmanager
def pixel_limit(limit: int) -> Iterator[None]:
    """Set Pillow's limit of pixels, which all threads share."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our error names the file
        Image.MAX_IMAGE_PIXELS = limit
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def read_image(path: Path, transform: ImageTransform) -> ImageArray:
    """Return one image as the transform says, upright as its camera meant it.

    Palettes, CMYK and other colours are converted, 16 bits become 8, transparency becomes white.

    Raises:
        UnreadableImageError: it cannot be read.
        CropError: it is smaller than the crop.
    """
    try:
        with _open(path, transform.max_pixels) as image:
            square = _crop_square(ImageOps.exif_transpose(image), path.name, transform)
    except (UnreadableImageError, CropError):
        raise
    except Exception as error:  # a decoder met with a damaged file raises all kinds of errors
        raise UnreadableImageError(str(error) or type(error).__name__) from error
    return np.ascontiguousarray(np.moveaxis(np.atleast_3d(np.asarray(square)), -1, 0))


def _open(path: Path, max_pixels: int) -> Image.Image:
    """Open an image without reading its pixels; reject other files and too large images."""
    if not path.is_file():
        raise UnreadableImageError("no file, or a broken link")
    if path.stat().st_size == 0:
        raise UnreadableImageError("the file is empty")
    try:
        image = Image.open(path, formats=[f for f in FORMATS if f in formats()])
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image in a known format") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"a decompression bomb: more than twice {max_pixels:,} pixels, the limit"
        ) from None
    if (pixels := image.width * image.height) > max_pixels:
        size = f"{image.width}x{image.height}"
        image.close()
        raise UnreadableImageError(
            f"a decompression bomb: {size} = {pixels:,} pixels, {max_pixels:,} is the limit"
        )
    return image


def _crop_square(image: Image.Image, name: str, transform: ImageTransform) -> Image.Image:
    width, height = image.size
    side = transform.crop or min(width, height)
    if side > min(width, height):
        raise CropError(name, side, width=width, height=height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    image = image.crop((left, top, left + side, top + side))
    if image.mode.startswith(("I", "F")):  # 16-bit grey: 0 to 65,535 is 0 to 255
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
            raise UnreadableImageError("its values are not of 8 or 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    converted = image.convert("RGB" if transform.colour == "rgb" else "L")
    return converted.resize((transform.size, transform.size), Image.Resampling.BILINEAR)
