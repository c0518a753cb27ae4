"""Every error has a message, a hint and an exit code of its own."""

import pickle
import traceback

import pytest

import dpvae_cli as dpvae
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


@pytest.mark.parametrize(
    ("hint", "note"),
    [
        (
            "Add --overwrite to replace it, or --out for another folder.",
            "Add mode='overwrite' to replace it, or out for another folder.",
        ),
        ("Leave out --no-download.", "Leave out download=False."),
        ("Add --trust-features to use it.", "Add trust_features=True to use it."),
        ("Name another folder with --run-dir.", "Name another folder with run_dir."),
        (
            "Go on with: dpvae train --resume --run-dir runs/x",
            "Go on with: dpvae train --resume --run-dir runs/x",
        ),
        ("Two values -- no option.", "Two values -- no option."),
    ],
)
def test_options_become_keyword_arguments(hint, note):
    assert errors.in_python(hint) == note


def test_the_note_is_in_the_traceback_once_and_survives_pickling():
    error = errors.UsageError("full", hint="Add --overwrite.")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert "".join(traceback.format_exception(each)).count("Add mode='overwrite'.") == 1
        assert each.hint == "Add --overwrite."
    stopped = pickle.loads(
        pickle.dumps(errors.InterruptedRun("stopped", signal_number=15, hint="Add --resume."))
    )
    assert stopped.__notes__ == ["Add mode='resume'."]


def test_an_error_without_a_hint_has_no_note():
    assert not hasattr(errors.UsageError("no"), "__notes__")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: dpvae.load("nowhere.pt"), "there is no checkpoint at nowhere.pt"),
        (lambda: dpvae.load_prior("nowhere.pt"), "there is no prior at nowhere.pt"),
        (lambda: dpvae.load_recipe("vae_moons", ["prior=a: b: c"]), "prior"),
    ],
)
def test_a_traceback_does_not_tell_what_was_met_on_the_way(call, said):
    with pytest.raises(errors.DpvaeError, match=said) as caught:
        call()
    told = "".join(traceback.format_exception(caught.value))
    assert told.count("Traceback") == 1
    assert told.rstrip().endswith(caught.value.__notes__[-1].splitlines()[-1])
