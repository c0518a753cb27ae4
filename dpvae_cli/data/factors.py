"""Full factorials: every combination of some factors' values, dealt to the splits."""

from collections.abc import Sequence

import numpy as np
import torch

from dpvae_cli.data.base import Split, held_out_shares
from dpvae_cli.foundation.shapes import FactorValues, Stored

DEAL_SEED = 0


def combinations(sizes: Sequence[int]) -> FactorValues:
    """Return every combination of values from 0, `(product of sizes, factors)`, the last fastest.

    Args:
        sizes: how many values each factor has.
    """
    places = np.unravel_index(np.arange(int(np.prod(sizes))), tuple(sizes))
    return torch.from_numpy(np.stack(places, axis=1).astype(np.int64))


def dealing_order(count: int) -> np.ndarray:
    """Return the one order in which examples are dealt out, the same on every machine.

    numpy keeps the draws of `RandomState` for good.
    """
    return np.random.RandomState(DEAL_SEED).permutation(count)


def dealt(
    images: Stored, factors: FactorValues, *, validation: float, test: float, label: int
) -> dict[str, Split]:
    """Cut examples, which come in dealing order, into the three splits.

    Args:
        images: as they are stored.
        factors: of each image.
        validation: share held out.
        test: share held out.
        label: which factor is the label too.
    """
    cut = held_out_shares(len(images), validation=validation, test=test)
    return {
        name: Split(images[part], factors[part, label], factors=factors[part])
        for name, part in cut.items()
    }
