"""Planted codes: what `docs/diagnose.md` says of false alarms, standard errors and power."""

import pytest

from benchmarks.diagnosis_power import (
    HALF,
    KINDS,
    false_alarms,
    healthy,
    power,
    ratios,
    with_hole,
)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_every_prior_are_healthy(kind):
    assert healthy(kind, 2, 200, seed=5).off == ()


def test_a_half_space_is_found_and_a_large_hole():
    assert with_hole(2, 200, 0.5, seed=0).has_pockets
    found = with_hole(2, 4_000, 0.12, seed=0)
    assert found["kl_prior_to_posterior"].is_off


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_false_alarms_are_rare():
    """The docs have 324 data sets, of which 0.9 % are off."""
    *_, total = false_alarms(2, sizes=(200, 1_000))
    _, _, sets, alarms, _, _ = total.split("|")
    assert int(sets) == 48
    assert int(alarms.split("(")[0]) <= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reported_standard_errors_are_true():
    """Over 40 data sets a ratio is known within 11 %; the docs have 80."""
    head, _, *rows = ratios(40, cases=((2, 1_000), (6, 5_000)))
    assert len(rows) == 2
    names = [cell.strip(" `") for cell in head.split("|")[3:-1]]
    for row in rows:
        for name, cell in zip(names, row.split("|")[3:-1], strict=True):
            # the largest of all marginals is shown with the deviation of a single one
            assert name == "marginals" or 0.65 < float(cell) < 1.5, (name, row)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_holes_are_found_where_codes_are_many():
    _, _, row = power(8, cases=((2, 5_000),), masses=(0.12, HALF))
    hole, half_space = (float(cell.strip(" %")) for cell in row.split("|")[3:-1])
    assert hole > 80
    assert half_space == 100
