"""The examples run from end to end, and the prior they fit is better than the one trained with."""

import json
import runpy
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO

import numpy as np
import pytest

from tests.docs.pages import ROOT

SHORT = ("--train", "1000", "--iterations", "400", "--fit", "300", "--samples", "500")


def printed_by(name, folder, *arguments):
    """Run an example as a script; return what it printed."""
    printed, script = StringIO(), str(ROOT / "examples" / name)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
    return printed.getvalue()


def run(name, out, *arguments):
    """Run an example that writes results; return them and what it printed."""
    printed = printed_by(name, out.parent, "--out", str(out), *SHORT, *arguments)
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    by_prior = {prior: {each["metric"]: each for each in all_} for prior, all_ in found.items()}
    return by_prior, printed


def better(results, prior, metric):
    """Tell whether a fitted prior is better by more than three standard errors."""
    before, after = results["standard_normal"][metric], results[prior][metric]
    error = np.hypot(before["standard_error"], after["standard_error"])
    return before["value"] - after["value"] > 3 * error


def test_plain_torch_by_calls_and_by_commands(tmp_path):
    results, printed = run("plain_torch.py", tmp_path / "out", "--priors", "decoupled")
    assert better(results, "decoupled", "leak")
    assert better(results, "decoupled", "manifold")
    assert f"{results['decoupled']['skl']['value']:.4g}" in printed
    assert (tmp_path / "out" / "before_after.png").is_file()
    by_calls, by_commands = (
        np.load(tmp_path / "out" / f"samples_{name}.npy") for name in ("decoupled", "through_files")
    )
    assert by_calls.shape == (1000, 2)
    np.testing.assert_allclose(by_calls, by_commands, atol=1e-4)


@pytest.mark.skipif(find_spec("pythae") is None, reason="Pythae is not installed: make bench")
def test_pythae_model(tmp_path):
    results, _ = run("pythae_model.py", tmp_path / "out", "--priors", "spline")
    assert better(results, "spline", "skl")
    assert better(results, "spline", "manifold_lp")
    assert np.load(tmp_path / "out" / "samples_spline.npy").shape == (1000, 2)


@pytest.mark.skipif(find_spec("diffusers") is None, reason="pip install diffusers")
def test_diffusers_autoencoder(tmp_path):
    short = ("--iterations", "60", "--priors", "mixture")
    results, _ = run("diffusers_autoencoder.py", tmp_path / "out", *short)
    assert better(results, "mixture", "skl")
    assert np.load(tmp_path / "out" / "samples_mixture.npy").shape == (64, 1, 8, 8)


def test_sklearn_arrays(tmp_path):
    printed = printed_by("sklearn_arrays.py", tmp_path, "--components", "4", "--fit", "200")
    accuracy = dict(line.rsplit(maxsplit=1) for line in printed.splitlines()[1:])
    assert float(accuracy["N(0, I)"]) > 0.65
    assert float(accuracy["mixture"]) < 0.6
