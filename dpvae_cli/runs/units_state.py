"""Units of the training data as tensors and facts of a checkpoint."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dpvae_cli.data.units import Standardization, Units
from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.foundation.serialization import expect_type


def units_facts(units: Units) -> dict[str, Any]:
    """Return the range of values and the names of columns."""
    value_range = None if units.value_range is None else list(units.value_range)
    return {"data_range": value_range, "data_columns": list(units.columns)}


def units_tensors(units: Units) -> dict[str, Tensor]:
    """Return the mean and the standard deviation of the data, where it was standardized."""
    return {} if units.standardization is None else units.standardization._asdict()


def load_units(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, shape: tuple[int, ...]
) -> Units:
    """Return the units in the tensors and facts of a checkpoint of examples of this shape.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are malformed.
    """
    standardization = value_range = None
    if tensors:
        mean, deviation = tensors["mean"].double(), tensors["deviation"].double()
        if mean.shape != shape or deviation.shape != shape:
            raise ValueError(f"mean {tuple(mean.shape)} and deviation {tuple(deviation.shape)}")
        if not (mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()):
            raise ValueError("mean or deviation is not finite and positive")
        standardization = Standardization(mean, deviation)
    if facts["data_range"] is not None:
        low, high = map(float, expect_type(list, facts["data_range"]))
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"range {low} to {high}")
        value_range = low, high
    columns = (sanitize_line(expect_type(str, name)) for name in facts.get("data_columns", ()))
    return Units(standardization, value_range, tuple(columns))
