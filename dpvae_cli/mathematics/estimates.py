"""Means of independent values with their standard errors, and errors of paired differences.

The error of any estimate is kept as *error terms*: what each independent draw contributes, scaled
so that their Euclidean norm is the standard error. Two estimates from the same draws in the same
order have correlated terms, and the norm of their difference is the error of the difference.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

ErrorTerms = Float[Tensor, " terms"]


@final
class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class EstimateWithTerms:
    """An estimate and its error terms, which also give the errors of differences."""

    value: float
    error_terms: ErrorTerms

    @property
    def standard_error(self) -> float:
        """Return the standard error, without the bias of the estimate."""
        return standard_error(self.error_terms)

    def to_dict(self) -> dict[str, float]:
        """Return value and standard error, as details of results have them."""
        return {"value": self.value, "standard_error": self.standard_error}


def mean_with_terms(values: Float[Tensor, " terms"]) -> EstimateWithTerms:
    """Return the mean of independent values with its error terms, NaN for one value alone."""
    return EstimateWithTerms(float(values.double().mean()), error_terms_of_mean(values))


def mean_and_error(values: Tensor) -> Estimate:
    """Return the mean of independent values and its standard error, NaN for one value alone."""
    return Estimate(float(values.double().mean()), standard_error(error_terms_of_mean(values)))


def error_terms_of_mean(values: Float[Tensor, " terms"]) -> ErrorTerms:
    """Return (x_i - mean) / sqrt(n (n - 1)) of independent values, NaN for one value alone."""
    values = values.double()
    n = len(values)
    scale = math.sqrt(n * (n - 1)) if n > 1 else math.nan
    return (values - values.mean()) / scale


def standard_error(terms: ErrorTerms) -> float:
    """Return the standard error whose terms these are: their Euclidean norm."""
    return float(torch.linalg.vector_norm(terms))


def error_of_difference(first: ErrorTerms, second: ErrorTerms) -> float:
    """Return the standard error of the difference of two estimates from the same draws.

    With as many terms on both sides the draws are paired one by one: right where they are shared,
    and right on average where they are independent. Otherwise both errors are added as independent.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 4.0, 8.0])
        >>> same = error_terms_of_mean(x), error_terms_of_mean(x + 1)
        >>> error_of_difference(*same)
        0.0
    """
    if first.shape == second.shape:
        return standard_error(first - second)
    return math.hypot(standard_error(first), standard_error(second))
