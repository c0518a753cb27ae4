"""A prior without generation space at the entry point: what works in z, what says it cannot."""

import json

import numpy as np
import pytest

from tests.cli.test_commands import ok, run
from tests.small import SMALL

FOLDER = "vamp"
NO_Z0 = "the vamp prior has no generation space"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vamp")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prior = "prior={kind: vamp, pseudo_inputs: 5}"
        ok("train", "vae_moons", *SMALL, prior, "--run-dir", FOLDER)
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


@pytest.mark.parametrize(
    "arguments",
    [
        ["traverse", FOLDER],
        ["traverse", FOLDER, "--between", 0, 1],
        ["traverse", FOLDER, "--between", 0, 1, "--space", "both"],
        ["traverse", FOLDER, "--dimensions", 2, "--space", "z0"],
        ["traverse", FOLDER, "--grid"],
        ["eval", FOLDER, "--metrics", "path"],
        ["sample", FOLDER, "--high-posterior", "--rank", "generation"],
        ["plot", "moons", FOLDER],
        ["plot", "regularizers", FOLDER],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_what_needs_z0_says_that_there_is_none(arguments):
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert NO_Z0 in done.stderr
    assert "--space z" in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


def test_samples_have_no_z0(tmp_path):
    for option in ([], ["--low-posterior"], ["--high-posterior"]):
        ok("sample", FOLDER, "-n", 5, "--out", tmp_path / "x.png", *option)
        names = set(np.load(tmp_path / "x.npz").files)
        assert {"z", "log_p", "decoded"} <= names
        assert not names & {"z0", "log_p_generation"}


@pytest.mark.parametrize("arguments", [["--between", 0, 1, "--dimensions", 2], ["--grid"]])
def test_walks_in_z_work(arguments, tmp_path):
    done = ok("traverse", FOLDER, *arguments, "--space", "z", "--out", tmp_path)
    [arrays] = [np.load(path) for path in done.stdout.split() if path.endswith(".npz")]
    assert not [name for name in arrays.files if name.endswith("_z0")]
    assert np.isfinite(arrays["lowest_log_q"]).all()


def test_all_metrics_are_those_of_z():
    done = ok("eval", FOLDER, "--metrics", "all", "--json")
    [measured] = json.loads(done.stdout)["runs"]
    names = {result["metric"] for result in measured["results"]}
    assert {"skl", "skl_knn", "leak", "nll", "elbo", "manifold"} <= names
    assert not names & {"skl_knn_generation", "leak_printed", "path", "path_z0", "cost"}


def test_other_figures_work(tmp_path):
    for figure in ("leakage", "training"):
        ok("plot", figure, FOLDER, "--out", tmp_path / f"{figure}.png")
    ok("reconstruct", FOLDER, "--out", tmp_path / "x.png")
