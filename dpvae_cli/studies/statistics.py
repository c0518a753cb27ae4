"""Means over seeds and paired differences between priors, with intervals that say how sure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np
from scipy import stats

from dpvae_cli.evaluation.metrics import Direction
from dpvae_cli.foundation.text import format_with_error

MIN_SEEDS = 3
"""With fewer there is no verdict: the interval of two is a statement about nothing."""
LEVEL = 0.95
FALSE_DISCOVERY_RATE = 0.05


class Verdict(StrEnum):
    """What the interval of a mean difference says."""

    LOWER = "lower"
    HIGHER = "higher"
    UNCLEAR = "no clear difference"
    TOO_FEW = "too few seeds"


@final
@dataclass(frozen=True)
class Summary:
    """A metric over seeds; deviation and interval are None where they are not defined."""

    n: int
    mean: float
    standard_deviation: float | None
    half_width: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the ends of the 95 % interval of the mean."""
        return _interval(self.mean, self.half_width)


def _interval(mean: float, half_width: float | None) -> tuple[float, float] | None:
    return None if half_width is None else (mean - half_width, mean + half_width)


def summarize_seeds(values: Sequence[float]) -> Summary | None:
    r"""Return mean, standard deviation (n - 1) and half width of Student's 95 % interval.

    $$\bar x \pm t_{0.975,\,n-1}\, s / \sqrt n$$

    Returns:
        None without values; without a deviation for one value.

    Example:
        >>> found = summarize_seeds([1.0, 2.0, 3.0])
        >>> found.mean, found.standard_deviation, round(found.half_width, 3)
        (2.0, 1.0, 2.484)
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None)
    deviation = float(np.std(values, ddof=1))
    factor = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    return Summary(n, mean, deviation, factor * deviation / math.sqrt(n))


@final
@dataclass(frozen=True)
class Comparison:
    """A metric with one prior minus the same with another, seed by seed.

    `lower` and `higher` count the seeds; equal values are in neither. `p_value` is that of the
    exact two-sided sign test, None where all are equal. `t_test_p` belongs to the interval, which
    excludes zero where it is below 0.05; None where there is no verdict. `own_error` is the
    standard error of the difference of one seed alone, over draws and examples.
    """

    differences: Mapping[int, float]
    mean: float
    half_width: float | None
    lower: int
    higher: int
    p_value: float | None
    t_test_p: float | None
    verdict: Verdict
    better: Direction
    unit: str
    own_error: float | None = None

    @property
    def n(self) -> int:
        """Return the number of pairs."""
        return len(self.differences)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the ends of the 95 % interval of the mean difference."""
        return _interval(self.mean, self.half_width)

    @property
    def uncertainty(self) -> float | None:
        """Return what is printed after ±: half of the interval, of one seed its own error."""
        return self.half_width if self.half_width is not None else self.own_error

    @property
    def wins(self) -> int | None:
        """Return the seeds in which it is better, None where neither way is."""
        return {Direction.LOWER: self.lower, Direction.HIGHER: self.higher}.get(self.better)

    @property
    def is_better(self) -> bool:
        """Return whether the interval says that it is better."""
        return self.verdict.value == self.better.value

    @property
    def is_worse(self) -> bool:
        """Return whether the interval says that it is worse."""
        decided = self.verdict in (Verdict.LOWER, Verdict.HIGHER)
        return decided and self.better is not Direction.NEITHER and not self.is_better


def compare_pairs(
    values: Mapping[int, float], baseline: Mapping[int, float], *, better: Direction, unit: str = ""
) -> Comparison | None:
    """Compare a metric by seed with another prior's, over the seeds that both have; None without.

    Args:
        values: the metric with one prior, by seed.
        baseline: the same with the other.
        better: which way of the metric is better.
        unit: of the metric.
    """
    seeds = sorted(set(values) & set(baseline))
    differences = {seed: values[seed] - baseline[seed] for seed in seeds}
    found = summarize_seeds(list(differences.values()))
    if found is None:
        return None
    verdict, t_test_p = Verdict.TOO_FEW, None
    if found.n >= MIN_SEEDS and found.interval and found.standard_deviation is not None:
        low, high = found.interval
        is_clear = low > 0 or high < 0
        verdict = (Verdict.HIGHER if low > 0 else Verdict.LOWER) if is_clear else Verdict.UNCLEAR
        if found.standard_deviation == 0:
            t_test_p = 1.0 if found.mean == 0 else 0.0
        else:
            t = found.mean / (found.standard_deviation / math.sqrt(found.n))
            t_test_p = float(2 * stats.t.sf(abs(t), found.n - 1))
    lower = sum(difference < 0 for difference in differences.values())
    higher = sum(difference > 0 for difference in differences.values())
    return Comparison(
        differences=differences,
        mean=found.mean,
        half_width=found.half_width if found.n >= MIN_SEEDS else None,
        lower=lower,
        higher=higher,
        p_value=sign_test(lower, higher),
        t_test_p=t_test_p,
        verdict=verdict,
        better=better,
        unit=unit,
    )


def sign_test(lower: int, higher: int) -> float | None:
    """Return the two-sided p-value for counts of negative and positive differences, no ties."""
    if lower + higher == 0:
        return None
    return float(stats.binomtest(lower, lower + higher, 0.5).pvalue)


def adjust_p_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for how many comparisons there are; None stays None.

    Those at most 0.05 are found at a false discovery rate of 5 %: of all that are found, one in
    twenty is expected to be none. Holds for comparisons that are independent or go together.

    Source: Benjamini and Hochberg 1995.

    Example:
        >>> adjust_p_values([0.01, None, 0.04, 0.5])
        [0.03, None, 0.06, 0.5]
    """
    known = [p for p in p_values if p is not None]
    adjusted = iter(stats.false_discovery_control(known).tolist() if known else [])
    return [None if p is None else next(adjusted) for p in p_values]


def describe_comparison(comparison: Comparison) -> str:
    """Return a comparison in words: `lower in 5 of 5 seeds, -14.2 ± 3.1 nats (better)`."""
    amount = format_with_error(comparison.mean, comparison.uncertainty, sign=True)
    amount = f"{amount} {comparison.unit}".rstrip()
    n, lower, higher = comparison.n, comparison.lower, comparison.higher
    count = f"equal in {n} of {n} seeds"
    if lower or higher:
        is_lower = lower >= higher
        if comparison.verdict in (Verdict.LOWER, Verdict.HIGHER):
            is_lower = comparison.verdict is Verdict.LOWER
        seeds = "the one seed" if n == 1 else f"{lower if is_lower else higher} of {n} seeds"
        differs = "differs: " if comparison.better is Direction.NEITHER else ""
        count = f"{differs}{'lower' if is_lower else 'higher'} in {seeds}"
    if comparison.verdict is Verdict.TOO_FEW:
        seeds = "1 seed" if n == 1 else f"{n} seeds"
        return f"{count}, {amount}; {seeds}: no verdict below {MIN_SEEDS}"
    if comparison.verdict is Verdict.UNCLEAR:
        return f"no clear difference: {count}, {amount}"
    if comparison.better is Direction.NEITHER:
        return f"{count}, {amount}"
    return f"{count}, {amount} ({'better' if comparison.is_better else 'worse'})"
