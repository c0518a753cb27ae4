"""Whether examples of a shape are images."""

from collections.abc import Sequence

IMAGE_CHANNELS = (1, 3)
"""Grey and RGB."""


def is_image(shape: Sequence[int]) -> bool:
    """Return whether examples of this shape are images, `(channels, height, width)`."""
    return len(shape) == 3 and shape[0] in IMAGE_CHANNELS
