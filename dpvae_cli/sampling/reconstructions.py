"""Examples and their reconstructions."""

import numpy as np

from dpvae_cli.data import Split
from dpvae_cli.model import VAE
from dpvae_cli.sampling.encodings import decode_to_data_units, encode


def reconstruction_arrays(model: VAE, split: Split, n: int) -> dict[str, np.ndarray]:
    """Return the first n examples `x`, the means `z` of q(z|x), and `decoded`, E[x|z].

    `x` and `decoded` are in the units of the training data. Of a split with fewer examples all.
    """
    some = Split(split.stored[:n])
    z = encode(model, some).mean
    return {
        "x": model.units.inverse_transform(some.examples()).numpy(),
        "z": z.cpu().numpy(),
        "decoded": decode_to_data_units(model, z),
    }
