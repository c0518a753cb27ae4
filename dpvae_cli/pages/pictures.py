"""Pictures that travel inside the page: files checked to be pictures, figures drawn on the spot."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import final

from PIL import Image

from dpvae_cli.data.images import MAX_PIXELS
from dpvae_cli.foundation.text import is_inside

FORMATS = {"PNG": "image/png", "GIF": "image/gif", "JPEG": "image/jpeg"}
LONGEST_SIDE = 1_600
MOST_BYTES = 6 * 2**20
MOST_FILE_BYTES = 256 * 2**20
"""A larger file is not even read."""
PIXEL_ART = 420
"""Pictures narrower than this are grids of small images: shown larger, pixel for pixel."""


@final
@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, its size in pixels, and its words."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str = ""

    @property
    def is_small(self) -> bool:
        """Tell whether it is a grid of few pixels."""
        return self.width < PIXEL_ART


def from_bytes(content: bytes, *, alt: str, caption: str = "") -> Picture | None:
    """Return a picture, made smaller where it is very large; None for anything that is none."""
    try:
        with Image.open(BytesIO(content), formats=tuple(FORMATS)) as image:
            kind, size = image.format, image.size
            if size[0] * size[1] > MAX_PIXELS:
                return None
            image.load()
            if max(size) > LONGEST_SIDE or len(content) > MOST_BYTES:
                kind, content, size = _smaller(image)
    except Exception:  # a decoder met with a damaged file raises all kinds of errors
        return None
    encoded = base64.b64encode(content).decode("ascii")
    return Picture(f"data:{FORMATS[str(kind)]};base64,{encoded}", *size, alt, caption)


def _smaller(image: Image.Image) -> tuple[str, bytes, tuple[int, int]]:
    smaller = image.convert("RGB")
    smaller.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    written = BytesIO()
    smaller.save(written, "PNG", optimize=True)
    return "PNG", written.getvalue(), smaller.size


def from_file(path: Path, *, within: Path, alt: str, caption: str = "") -> Picture | None:
    """Return the picture in a file of the folder `within`, None where there is none."""
    try:
        is_whole = (
            path.is_file() and is_inside(path, within) and path.stat().st_size <= MOST_FILE_BYTES
        )
        content = path.read_bytes() if is_whole else b""
    except OSError:
        return None
    return from_bytes(content, alt=alt, caption=caption) if content else None


def first(names: Sequence[str], *, within: Path, alt: str, caption: str = "") -> Picture | None:
    """Return the first of these files of a folder that is a picture."""
    found = (from_file(within / name, within=within, alt=alt, caption=caption) for name in names)
    return next((picture for picture in found if picture is not None), None)
