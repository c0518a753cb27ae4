"""Full factorials: every combination of some factors' values, shuffled and split."""

from collections.abc import Sequence

import numpy as np
import torch

from dpvae_cli.data.base import Split, hold_out_shares
from dpvae_cli.foundation.shapes import FactorValues, StoredExamples

SHUFFLE_SEED = 0


def factor_combinations(sizes: Sequence[int]) -> FactorValues:
    """Return every combination of values from 0, `(product of sizes, factors)`, the last fastest.

    Args:
        sizes: how many values each factor has.
    """
    places = np.unravel_index(np.arange(int(np.prod(sizes))), tuple(sizes))
    return torch.from_numpy(np.stack(places, axis=1).astype(np.int64))


def shuffle_order(count: int) -> np.ndarray:
    """Return the fixed order in which examples are split, the same on every machine.

    numpy keeps the draws of `RandomState` for good.
    """
    return np.random.RandomState(SHUFFLE_SEED).permutation(count)


def split_factorial(
    images: StoredExamples, factors: FactorValues, *, validation: float, test: float, label: int
) -> dict[str, Split]:
    """Cut examples, which come in `shuffle_order`, into the three splits.

    Args:
        images: as they are stored.
        factors: of each image.
        validation: share held out.
        test: share held out.
        label: which factor is the label too.
    """
    cut = hold_out_shares(len(images), validation=validation, test=test)
    return {
        name: Split(images[part], factors[part, label], factors=factors[part])
        for name, part in cut.items()
    }
