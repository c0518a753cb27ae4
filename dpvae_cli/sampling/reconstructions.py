"""Examples and their reconstructions."""

import numpy as np

from dpvae_cli.data import Split
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import decode, encode


def reconstructed(model: VAE, split: Split, n: int) -> dict[str, np.ndarray]:
    """Return the first n examples `x`, the means `z` of q(z|x), and `decoded`, E[x|z].

    Of a split with fewer examples all.
    """
    some = Split(split.stored[:n])
    z = encode(model, some).mean
    arrays = {"x": some.examples(), "z": z, "decoded": decode(model, z)}
    return {name: array.cpu().numpy() for name, array in arrays.items()}
