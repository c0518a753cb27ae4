"""Read the pages of `dpvae explore` as the browser does."""

import base64
import gzip
import json
import re

import numpy as np

CONTENT = re.compile(r'<script type="application/json" id="content">(.*?)</script>', re.DOTALL)
PACKED = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")


def content(page):
    """Return the JSON inside a page."""
    return json.loads(CONTENT.search(page)[1])


def unpack(packed):
    """Return the array that `packing.pack` packed."""
    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed["data"])), dtype=np.uint8)
    powers = 256.0 ** np.arange(packed["bytes"])
    integers = (planes.reshape(packed["bytes"], -1) * powers[:, None]).sum(axis=0)
    low, step = np.array(packed["low"]), np.array(packed["step"])
    return (low + step * integers.reshape(-1, len(low))).reshape(packed["shape"])


def readable(page):
    """Return a page without its packed parts."""
    return PACKED.sub("", page)
