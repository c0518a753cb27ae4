"""Numbers as text."""

import math

import pytest

from dpvae_cli.foundation.text import format_number, format_with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.2, 0.11, "0.20 ± 0.11"),
        (4736.2, 30.4, "4736 ± 30"),
        (1.0, 0.0, "1.0000 ± 0.0000"),
        (9_478_852.0, 16_415_199.0, "(0.9 ± 1.6)e7"),
        (-312_345.0, 1_200.0, "(-3.123 ± 0.012)e5"),
        (1.5, math.nan, "1.5"),
        (1.5, None, "1.5"),
        (math.inf, 1.0, "-"),
        (None, 1.0, "-"),
    ],
)
def test_a_value_has_the_digits_that_its_error_leaves(value, error, text):
    assert format_with_error(value, error) == text


def test_signs():
    assert format_with_error(0.2, 0.11, sign=True) == "+0.20 ± 0.11"
    assert format_with_error(2e6, 1e6, sign=True) == "(+2.0 ± 1.0)e6"
    assert format_number(-1.23456) == "-1.235"
