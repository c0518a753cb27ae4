"""Full factorials: every combination of some factors' values, shuffled and split."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dpvae_cli.data.base import Split, SplitName, Splits, each_split
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
    images: StoredExamples, factors: FactorValues, cut: Mapping[SplitName, slice], *, label: int
) -> Splits:
    """Return the splits of examples in `shuffle_order`, each with its factors.

    Args:
        images: as they are stored.
        factors: of each image.
        cut: the rows of each split.
        label: which factor is the label too.
    """
    return each_split(
        lambda name: Split(images[cut[name]], factors[cut[name], label], factors=factors[cut[name]])
    )
