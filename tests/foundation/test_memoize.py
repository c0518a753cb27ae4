import pytest

from dpvae_cli.foundation.errors import MissingError
from dpvae_cli.foundation.memoize import memoize


def counting(outcome):
    calls = []

    def make():
        calls.append(None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return memoize(make), calls


@pytest.mark.parametrize("outcome", [7, None])
def test_it_is_made_once(outcome):
    made, calls = counting(outcome)
    assert (made(), made()) == (outcome, outcome)
    assert len(calls) == 1


def test_what_is_missing_is_looked_for_once():
    made, calls = counting(MissingError("no weights"))
    for _ in range(3):
        with pytest.raises(MissingError, match="no weights"):
            made()
    assert len(calls) == 1


def test_a_bug_is_no_answer():
    made, calls = counting(ZeroDivisionError())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            made()
    assert len(calls) == 2
