"""Numbers as text inside a page: quantised, compressed, base64."""

import base64
import gzip
from typing import Any

import numpy as np

LOG_DENSITY_BYTES, PICTURE_BYTES, POINT_BYTES = 2, 1, 2
"""Bytes of a value: of maps, of pictures, of points that are drawn."""
CODE_BYTES, FEWER_CODE_BYTES = 3, 2
"""Bytes of a value of q(z): of all codes, to 1e-6 nats, and where codes are left out anyway."""


def pack(array: np.ndarray, size: int) -> dict[str, Any]:
    """Return an array as JSON: value = low + step * code, a column a scale.

    Codes are integers of `size` bytes; all lowest bytes come first, then all second ones, and so
    on, since the high bytes of similar values compress well. `latent.js` reads it.

    Args:
        array: of finite numbers; the columns of the last axis are scaled one by one.
        size: bytes of a code; the error is at most (high - low) / (2 (256^size - 1)).
    """
    values = np.asarray(array, dtype=np.float64)
    columns = values.reshape(-1, values.shape[-1]) if values.size else np.zeros((1, 1))
    low, high = columns.min(axis=0), columns.max(axis=0)
    step = (high - low) / (256**size - 1)
    integers = np.rint((columns - low) / np.where(step > 0, step, 1)).astype(np.uint32)
    planes = integers.reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :size].T
    return {
        "shape": list(values.shape),
        "low": low.tolist(),
        "step": step.tolist(),
        "bytes": size,
        "data": pack_bytes(planes.tobytes()),
    }


def pack_bytes(content: bytes) -> str:
    """Return gzipped bytes in base64, the same at every call."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
