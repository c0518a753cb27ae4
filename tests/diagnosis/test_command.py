"""`dpvae diagnose` through its entry point."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from dpvae_cli.diagnosis import candidates
from dpvae_cli.recipe import Fitting
from tests.cli.test_commands import ok, run
from tests.small import SMALL


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with a run of moons by either prior, and one of grey images."""
    folder = tmp_path_factory.mktemp("diagnose")
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 5), dtype=np.uint8)
    np.savez(folder / "grey.npz", x=images)
    small = [part for part in SMALL if not part.startswith("data.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = "data={kind: arrays, path: grey.npz}"
        ok("train", "vae_moons", data, *small, "--run-dir", "grey")
        for prior in ("standard_normal", "decoupled"):
            ok("train", "vae_moons", *SMALL, f"prior={prior}", "--run-dir", prior)
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    torch.manual_seed(0)


@pytest.mark.parametrize("prior", ["standard_normal", "decoupled"])
def test_the_page_is_printed_and_written(prior):
    """Without a path it takes the latest run, which is the decoupled one."""
    done = ok("diagnose", *([prior] if prior == "standard_normal" else []), "--quick")
    assert ("Using decoupled/checkpoint.pt (runs/latest)." in done.stderr) == (prior == "decoupled")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("This model ")
    assert "samples where only 1 % of codes lie (pockets)" in done.stdout
    assert "Random and low-posterior samples: not measured" in done.stdout
    assert lines[-2:] == [f"{prior}/diagnosis.html", f"{prior}/diagnosis.json"]
    said = json.loads(Path(prior, "diagnosis.json").read_text())
    assert said["headline"] == lines[0]
    assert (said["prior"], said["run"], said["repairs"]) == (prior, prior, [])
    page = Path(prior, "diagnosis.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "No other prior was tried" in page


def test_priors_are_tried_and_samples_decoded(tmp_path, monkeypatch):
    """The whole of it: the try that gains most is recommended with the command to type."""
    brief = dict.fromkeys(candidates.CANDIDATE_PRIORS, Fitting(iterations=20))
    monkeypatch.setattr(candidates, "CANDIDATE_PRIORS", brief)
    done = ok("diagnose", "standard_normal", "--json", "--out", tmp_path / "x.html", "--quiet")
    said = json.loads(done.stdout)
    assert said == json.loads((tmp_path / "x.json").read_text())
    assert {each["prior"] for each in said["repairs"]} == {"decoupled", "spline", "mixture"}
    assert said["low_posterior"]["random"]["metric"] == "manifold"
    assert said["recommended"] in (None, "decoupled", "spline", "mixture")
    assert (said["recommended"] is None) == (said["command"] is None)
    if said["recommended"]:
        assert said["command"].startswith("dpvae fit-prior standard_normal --prior ")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "standard_normal (as it is)" in page
    assert "manifold [units of x]" in page


def test_precision_and_recall_that_were_measured_are_shown():
    names = "precision,recall,density,coverage,precision_lp"
    ok("eval", "decoupled", "--metrics", names, "evaluation.support_samples=40")
    done = ok("diagnose", "decoupled", "--quick", "--out", "supported")
    assert done.stdout.endswith("supported/diagnosis.html\nsupported/diagnosis.json\n")
    rows = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.strip()}
    seen = {name: rows[name] for name in names.split(",")[:4]}
    assert seen == {
        "precision": "pockets",
        "recall": "leaks",
        "density": "pockets",
        "coverage": "leaks",
    }
    assert "precision_lp" not in rows
    said = "Precision and density see pockets, recall and coverage see leaks"
    assert said in done.stdout
    assert said in Path("supported/diagnosis.html").read_text(encoding="utf-8")
    support = json.loads(Path("supported/diagnosis.json").read_text())["support"]
    assert [each["metric"] for each in support] == names.split(",")[:4]


@pytest.mark.parametrize(
    ("prior", "fitting"),
    [
        ("spline", Fitting(iterations=30, learning_rate=2e-2, validate_every=10)),
        ("{kind: mixture, covariance: full}", Fitting(held_out=0.3)),
    ],
)
def test_the_command_gives_the_very_gain_that_was_promised(prior, fitting, tmp_path, monkeypatch):
    """Whatever the seed of the diagnosis, and though the run has a `fitting` of its own."""
    own = ["fitting.learning_rate=0.5", "fitting.held_out=0.4", "prior=standard_normal", "seed=7"]
    longer = ["data.train=600", "training.iterations=60", "training.learning_rate=1e-2"]
    folder = tmp_path / "a run"
    ok("train", "vae_moons", *SMALL, *longer, *own, "--run-dir", folder)
    monkeypatch.setattr(candidates, "CANDIDATE_PRIORS", {prior: fitting})
    done = ok("diagnose", folder, "--seed", 3)
    said = json.loads((folder / "diagnosis.json").read_text())
    assert said["command"] in done.stdout
    assert ("has no z0" in said["remedy"]) == ("mixture" in prior)
    _, *words = shlex.split(said["command"])
    ok(*words, "--out", tmp_path / "fitted")
    fit = json.loads((tmp_path / "fitted" / "fit.json").read_text())
    [repair] = said["repairs"]
    assert (fit["gain"]["value"], fit["gain"]["standard_error"], fit["reported"]) == (
        repair["gain"],
        repair["standard_error"],
        repair["held_out"],
    )


def test_a_run_that_overfits_is_told_with_the_checkpoint_from_before(tmp_path):
    """Thirty points of noise in ten dimensions: a net of their own learns them by heart."""
    points = np.random.default_rng(0).standard_normal((90, 10)).astype(np.float32)
    np.save(tmp_path / "few.npy", points)
    ok(
        *["train", "vae_moons", f"data={{kind: arrays, path: {tmp_path / 'few.npy'}}}"],
        "training.batch_size=32",
        *["data.validation=0.5", "data.test=0.1", "architecture.hidden=[128, 128]"],
        *["prior=standard_normal", "likelihood.scale=0.05", "training.iterations=500"],
        *["training.validate_every=50", "training.learning_rate=5e-3"],
        *["--run-dir", tmp_path / "run", "--quiet"],
    )
    done = ok("diagnose", tmp_path / "run", "--quick", "--quiet")
    said = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert said["overfits"]
    assert not said["is_healthy"]
    assert 0 < said["overfits_since"] < 500
    assert "overfits" in said["headline"]
    assert f"its validation ELBO fell ever since iteration {said['overfits_since']}" in done.stdout
    ok("diagnose", tmp_path / "run", "--quick", "--quiet", "--best")
    best = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert best["overfits_since"] is None


def test_images_have_grids_and_say_how_to_compare_and_to_measure_fid():
    done = ok("diagnose", "grey", "--quick")
    assert done.stdout.splitlines()[-3] == "  dpvae plot samples grey"
    page = Path("grey/diagnosis.html").read_text(encoding="utf-8")
    assert "those of them with the lowest log q(z)" in page
    assert page.count("<img") == 3
    assert "not measured. dpvae diagnose CKPT --inception-weights FILE measures it" in done.stdout
    done = ok("diagnose", "grey", "--quick", "--inception-weights", "nowhere.pth")
    assert "not measured: --inception-weights nowhere.pth: there is no such file" in done.stdout


def test_fid_that_dpvae_eval_has_measured_is_shown():
    said = json.loads(Path("grey/diagnosis.json").read_text())
    result = {
        **{"metric": "fid768", "value": 12.5, "standard_error": None, "samples": 20, "seed": 0},
        **{"unit": "squared feature units", "split": "train", "weights": "w", "details": {}},
    }
    lowest = result | {"metric": "fid768_lp", "value": 20.25}
    lowest["details"] = {"null": {"value": 14.75, "standard_error": None}}
    document = {"checkpoint_digest": said["checkpoint_digest"], "results": [result, lowest]}
    Path("grey/metrics.json").write_text(json.dumps(document))
    done = ok("diagnose", "grey", "--quick")
    for number in ("12.5", "20.25", "14.75"):
        assert number in done.stdout
    document["checkpoint_digest"] = "another"
    Path("grey/metrics.json").write_text(json.dumps(document))
    assert "not measured" in ok("diagnose", "grey", "--quick").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 4, "nowhere"),
        (["standard_normal", "--out", "x.pdf"], 2, "pages are written as .html"),
        (["standard_normal", "--fid-dimensions", "7"], 2, "Inception has 2048"),
    ],
)
def test_mistakes(arguments, code, words):
    done = run("diagnose", *arguments)
    assert done.exit_code == code
    assert words in done.stderr
