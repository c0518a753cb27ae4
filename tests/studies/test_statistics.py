"""Summaries and paired differences against scipy, brute force and closed forms."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from dpvae_cli.evaluation.metrics import Direction
from dpvae_cli.studies.statistics import (
    Verdict,
    adjust_p_values,
    compare_pairs,
    describe_comparison,
    sign_test,
    summarize_seeds,
)

RANDOM = np.random.default_rng(0)


def by_seed(values):
    return dict(enumerate(map(float, values)))


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_interval_is_students(n):
    values = RANDOM.normal(3, 2, size=n)
    found = summarize_seeds(list(map(float, values)))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.interval == pytest.approx((low, high))
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_deviation == pytest.approx(values.std(ddof=1))


def test_two_seeds_in_closed_form():
    # Student's t with one degree of freedom is Cauchy: its quantile is tan(pi (p - 1/2)).
    found = summarize_seeds([1.0, 3.0])
    assert found.half_width == pytest.approx(math.tan(math.pi * 0.475))


def test_one_value_has_no_deviation_and_none_no_summary():
    found = summarize_seeds([2.5])
    assert (found.n, found.mean, found.standard_deviation, found.interval) == (1, 2.5, None, None)
    assert summarize_seeds([]) is None


@pytest.mark.parametrize(("lower", "higher"), [(0, 3), (3, 0), (5, 0), (4, 2), (1, 1), (9, 1)])
def test_the_sign_test_against_all_outcomes(lower, higher):
    n = lower + higher
    outcomes = Counter(sum(signs) for signs in itertools.product([0, 1], repeat=n))
    as_rare = sum(ways for ways in outcomes.values() if ways <= outcomes[lower]) / 2**n
    assert sign_test(lower, higher) == pytest.approx(as_rare)


def test_ties_are_in_neither_count():
    found = compare_pairs(by_seed([1, 2, 3]), by_seed([1, 2, 4]), better=Direction.LOWER)
    assert (found.lower, found.higher, found.p_value) == (1, 0, 1.0)
    assert compare_pairs(by_seed([1, 2]), by_seed([1, 2]), better=Direction.LOWER).p_value is None


def test_pairs_are_of_the_same_seed():
    found = compare_pairs(
        {0: 1.0, 1: 5.0, 7: 0.0}, {1: 1.0, 0: 5.0, 3: 9.0}, better=Direction.LOWER
    )
    assert dict(found.differences) == {0: -4.0, 1: 4.0}
    assert compare_pairs({0: 1.0}, {1: 1.0}, better=Direction.LOWER) is None


def test_the_paired_interval_is_scipys():
    a, b = RANDOM.normal(size=6), RANDOM.normal(1, 1, size=6)
    found = compare_pairs(by_seed(a), by_seed(b), better=Direction.LOWER)
    assert found.interval == pytest.approx(tuple(stats.ttest_rel(a, b).confidence_interval(0.95)))


def test_the_p_value_of_the_interval_is_scipys():
    a, b = RANDOM.normal(size=5), RANDOM.normal(1, 1, size=5)
    found = compare_pairs(by_seed(a), by_seed(b), better=Direction.LOWER)
    assert found.t_test_p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    same, shifted = by_seed([1, 2, 3]), by_seed([2, 3, 4])
    assert compare_pairs(same, same, better=Direction.LOWER).t_test_p == 1
    assert compare_pairs(shifted, same, better=Direction.LOWER).t_test_p == 0
    assert compare_pairs({0: 1.0}, {0: 2.0}, better=Direction.LOWER).t_test_p is None


def test_adjusted_p_values_against_the_definition():
    """Benjamini and Hochberg: of the p-values in order, the least of p_j m / j from here on."""
    given = [0.01, None, 0.04, 0.03, 0.5]
    ordered = sorted(p for p in given if p is not None)
    expected = {
        p: min(q * 4 / (j + 1) for j, q in enumerate(ordered) if j >= i)
        for i, p in enumerate(ordered)
    }
    assert adjust_p_values(given) == [
        None if p is None else pytest.approx(expected[p]) for p in given
    ]
    assert adjust_p_values([None]) == [None]


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_seeds_there_is_no_verdict(n):
    found = compare_pairs(
        by_seed([1.0] * n), by_seed([100.0 + i for i in range(n)]), better=Direction.LOWER
    )
    assert found.verdict is Verdict.TOO_FEW
    assert found.half_width is None
    assert not found.is_better
    assert "no verdict below 3" in describe_comparison(found)


@pytest.mark.parametrize(
    ("better", "shift", "is_better", "is_worse"),
    [
        (Direction.LOWER, -5, True, False),
        (Direction.LOWER, 5, False, True),
        (Direction.HIGHER, 5, True, False),
        (Direction.HIGHER, -5, False, True),
        (Direction.NEITHER, 5, False, False),
        (Direction.LOWER, 0, False, False),
    ],
)
def test_a_verdict_follows_the_metrics_direction(better, shift, is_better, is_worse):
    base = [10.0, 11.0, 12.0, 13.0]
    noise = [0.1, -0.1, 0.2, -0.2]
    values = [x + shift + e for x, e in zip(base, noise, strict=True)]
    found = compare_pairs(by_seed(values), by_seed(base), better=better)
    assert (found.is_better, found.is_worse) == (is_better, is_worse)
    decided = Verdict.UNCLEAR if shift == 0 else Verdict.LOWER if shift < 0 else Verdict.HIGHER
    assert found.verdict is decided


def test_sentences():
    base = [10.0, 11.0, 12.0, 13.0, 14.0]
    lower = by_seed([x - 5 + 0.1 * i for i, x in enumerate(base)])
    found = compare_pairs(lower, by_seed(base), better=Direction.LOWER, unit="nats")
    assert describe_comparison(found) == "lower in 5 of 5 seeds, -4.80 ± 0.20 nats (better)"
    found = compare_pairs(lower, by_seed(base), better=Direction.HIGHER)
    assert describe_comparison(found) == "lower in 5 of 5 seeds, -4.80 ± 0.20 (worse)"
    found = compare_pairs(lower, by_seed(base), better=Direction.NEITHER)
    assert describe_comparison(found) == "differs: lower in 5 of 5 seeds, -4.80 ± 0.20"
    one = compare_pairs({0: 1.0}, {0: 3.5}, better=Direction.LOWER, unit="nats")
    assert (
        describe_comparison(one) == "lower in the one seed, -2.5 nats; 1 seed: no verdict below 3"
    )
    same = compare_pairs(by_seed(base), by_seed(base), better=Direction.LOWER)
    assert describe_comparison(same).startswith("no clear difference: equal in 5 of 5 seeds")
