"""Means of independent values with their standard errors."""

import math
from typing import NamedTuple, final

from torch import Tensor


@final
class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    standard_error: float


def mean_and_error(values: Tensor) -> Estimate:
    """Return the mean of independent values and its standard error, NaN for one value alone."""
    values = values.double()
    spread = float(values.std()) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), spread / math.sqrt(len(values)))
