"""The examples run from end to end, and the prior they fit is better than the one trained with."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from tests.docs.pages import ROOT

SHORT = ("--train", "1000", "--iterations", "400", "--fit", "300", "--samples", "500")


def run(name, out, *arguments):
    """Run an example as its users do; return the results and what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), "--out", str(out), *SHORT, *arguments],
        cwd=out.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    by_prior = {prior: {each["metric"]: each for each in all_} for prior, all_ in found.items()}
    return by_prior, done.stdout


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
