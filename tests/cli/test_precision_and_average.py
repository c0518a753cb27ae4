"""Every command on runs of float64 and bf16 whose weights are averaged."""

import json

import numpy as np
import pytest

from tests.cli.test_commands import ok, run
from tests.small import SMALL, tiny_extractor

ON_DIGITS = tuple(part for part in SMALL if not part.startswith("data."))
TYPES = {"float64": np.float64, "bf16": np.float32}


@pytest.fixture(scope="module", params=TYPES)
def workshop(request, tmp_path_factory):
    """Return a folder with a run of moons and one of digits, and the type of their numbers."""
    folder = tmp_path_factory.mktemp(request.param)
    training = (f"training.precision={request.param}", "training.ema=0.9")
    small = (*ON_DIGITS, "architecture={kind: mlp, hidden: [8]}", *training)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPVAE_CACHE", str(folder / "cache"))
        tiny_extractor(folder / "tiny.pt")
        wide = ("regularizer.width=8", "likelihood.learned=true")
        ok("train", "factor_moons", *SMALL, *wide, *training, "--run-dir", "moons")
        ok("train", "beta_tc_moons", "data=digits", *small, "--run-dir", "digits")
    return folder, TYPES[request.param]


@pytest.fixture(autouse=True)
def kind(workshop, monkeypatch):
    monkeypatch.chdir(workshop[0])
    monkeypatch.setenv("DPVAE_CACHE", str(workshop[0] / "cache"))
    return workshop[1]


each_run = pytest.mark.parametrize("name", ["moons", "digits"])


@each_run
def test_eval(name):
    features = ("--features", "tiny.pt", "--trust-features")
    more = features if name == "digits" else ()
    done = ok("eval", name, "--metrics", "all", "--json", *more)
    results = json.loads(done.stdout)["runs"][0]["results"]
    assert {"skl", "nll", "elbo", "leak", "active_units"} <= {r["metric"] for r in results}
    assert all(r["value"] is not None for r in results if not r["metric"].startswith("leak"))
    ok("eval", name, "--best", "--metrics", "skl,nll")


@each_run
@pytest.mark.parametrize("option", ["--low-posterior", "--high-posterior", "--posterior"])
def test_sample(name, option, kind, tmp_path):
    ok("sample", name, option, "-n", 5, "--out", tmp_path / "x.png")
    drawn = np.load(tmp_path / "x.npz")
    assert {drawn[array].dtype for array in ("z", "z0", "log_p", "decoded")} == {np.dtype(kind)}


@each_run
def test_encode_and_reconstruct(name, kind, tmp_path):
    ok("encode", name, "--out", tmp_path / "codes.npz")
    assert np.load(tmp_path / "codes.npz")["mean"].dtype == kind
    ok("reconstruct", name, "-n", 4, "--out", tmp_path / "x.png")
    assert np.load(tmp_path / "x.npz")["decoded"].dtype == kind


@each_run
@pytest.mark.parametrize("space", ["z0", "z"])
def test_traverse(name, space, kind, tmp_path):
    ok("traverse", name, "--space", space, "--out", tmp_path / "x.png")
    record = np.load(tmp_path / "x.npz")
    assert record["walk_decoded"].dtype == record["walk_z"].dtype == kind


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        ("moons", "moons"),
        ("regularizers", "moons"),
        ("leakage", "moons"),
        ("training", "digits"),
        ("samples", "digits"),
    ],
)
def test_plot(figure, name, tmp_path):
    ok("plot", figure, name, "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").is_file()


def test_single_images(tmp_path):
    ok("sample", "digits", "-n", 3, "--format", "png", "--out", tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 3


def test_resume(tmp_path):
    done = ok("train", "--resume", "--run-dir", "moons", "training.iterations=25")
    assert done.stdout == "moons\n"
    done = run("train", "--resume", "--run-dir", "moons", "training.ema=0.5")
    assert done.exit_code == 2
    assert "training.ema is 0.9 in the run" in done.stderr


def test_dry_run_says_both(kind):
    name = "float64" if kind is np.float64 else "bf16"
    done = ok("train", "vae_moons", "--dry-run", f"training.precision={name}", "training.ema=0.99")
    assert "ema, decay 0.99" in done.stdout
    shown = {"float64": "float64", "bf16": "bf16 in encoder and decoder, else float32"}
    assert f"precision                {shown[name]}" in done.stdout
