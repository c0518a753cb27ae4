"""Every error has a message, a hint and an exit code of its own."""

import pytest

from dpvae_cli.foundation import errors

CODES = {
    errors.DpvaeError: 1,
    errors.UsageError: 2,
    errors.MissingError: 3,
    errors.CheckpointError: 4,
    errors.DivergedError: 5,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_exit_codes(kind, code):
    error = kind("what", hint="do this")
    assert (str(error), error.hint, error.exit_code) == ("what", "do this", code)
    assert kind("what").hint is None


def test_interrupts_know_their_signal():
    error = errors.InterruptedRun("stopped", signal_number=15)
    assert error.signal_number == 15
    assert isinstance(error, errors.DpvaeError)
