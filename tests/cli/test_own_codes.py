"""`dpvae eval --codes` and `dpvae diagnose --codes`: files of codes without a model."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_commands import ok, run

QUICK = ("fitting.iterations=5", "fitting.batch_size=64", "--quiet")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with files of codes and a prior file."""
    folder = tmp_path_factory.mktemp("codes")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    factors = np.stack([labels, generator.integers(0, 2, 200)], axis=1)
    mean = factors - 1 + 0.1 * generator.normal(size=(200, 2))
    spread = np.full((200, 2), -3.0)
    places = generator.normal(size=(40, 3, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez(
            "codes.npz", mean=mean, log_variance=spread, labels=labels, factors=factors, more=1
        )
        np.savez("points.npz", mean=mean, label=labels)
        np.savez("spatial.npz", mean=places, log_variance=places - 3)
        np.savez("large.npz", mean=generator.normal(size=(40, 4, 16, 16)))
        np.savez("short.npz", mean=mean, labels=labels[:-1])
        np.savez("parts.npz", mean=mean, factors=factors + 0.5)
        np.savez("objects.npz", mean=mean, labels=np.array([{}] * 200, dtype=object))
        ok("fit-prior", "--codes", "codes.npz", "--prior", "mixture", *QUICK)
        ok("fit-prior", "--codes", "spatial.npz", "--prior", "mixture", *QUICK, "--out", "s.pt")
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def measured(*arguments):
    document = json.loads(ok("eval", *arguments, "--json").stdout)
    [found] = document["runs"]
    return found, {result["metric"]: result["value"] for result in found["results"]}


def test_codes_are_scored():
    names = "skl,leak,c2st,mig,probe"
    small = ("evaluation.samples=100", "evaluation.factor_repeats=2")
    found, values = measured("--codes", "codes.npz", "--metrics", names, *small)
    assert (found["run"], found["recipe"], found["checkpoint"]) == (
        "codes.npz",
        "codes",
        "codes.npz",
    )
    assert len(found["checkpoint_digest"]) == 32
    assert values["probe"] > 0.9
    assert values["mig"] > 0.5
    _, fitted = measured("--codes", "codes.npz", "--prior", "prior.pt", *small)
    assert fitted["skl"] < values["skl"]
    assert "leak" in fitted


def test_tables_and_unused_arrays():
    done = ok("eval", "--codes", "points.npz", "evaluation.c2st_samples=100")
    assert "c2st" in done.stdout
    done = ok("eval", "--codes", "codes.npz", "--metrics", "active_units")
    assert "Not used of codes.npz: more." in done.stderr


def test_spatial_codes_are_flattened():
    _, values = measured("--codes", "spatial.npz", "--prior", "s.pt", "evaluation.samples=50")
    assert set(values) >= {"skl", "c2st"}


def test_a_diagnosis_of_codes():
    done = ok("diagnose", "--codes", "codes.npz", "--quick")
    assert done.stdout.splitlines()[-2:] == ["diagnosis.html", "diagnosis.json"]
    assert "not measured: codes alone have no decoder." in done.stdout
    page = Path("diagnosis.html").read_text(encoding="utf-8")
    assert "Codes without a model" in page
    assert page.count("<img") == 2
    said = json.loads(Path("diagnosis.json").read_text())
    assert (said["run"], said["prior"], said["codes"]) == ("codes.npz", "standard_normal", 200)
    assert said["iteration"] is None
    again = ("diagnose", "--codes", "codes.npz", "--prior", "prior.pt", "--quick", "--out", "other")
    ok(*again)
    assert json.loads(Path("other/diagnosis.json").read_text())["prior"] == "mixture"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["eval", "run", "--codes", "codes.npz"], 2, "--codes replaces a checkpoint"),
        (["eval", "--prior", "prior.pt"], 2, "--prior is for --codes"),
        (["diagnose", "--prior", "prior.pt"], 2, "--prior is for --codes"),
        (["eval", "--codes", "nowhere.npz"], 3, "there are no codes at nowhere.npz"),
        (["eval", "--codes", "codes.npz", "--prior", "codes.npz"], 4, "codes.npz"),
        (["eval", "--codes", "spatial.npz", "--prior", "prior.pt"], 2, "codes have 12"),
        (["eval", "--codes", "large.npz"], 2, "1,024 numbers a code"),
        (["eval", "--codes", "short.npz"], 2, "a row for each of 200 codes"),
        (["eval", "--codes", "parts.npz"], 2, "whole numbers are expected"),
        (["eval", "--codes", "objects.npz"], 2, "holds Python objects"),
        (["eval", "--codes", "codes.npz", "--metrics", "fid"], 2, "no decoder"),
        (["eval", "--codes", "codes.npz", "--metrics", "skll"], 2, "did you mean skl?"),
        (["eval", "--codes", "points.npz", "--metrics", "skl"], 2, "codes are points"),
        (["eval", "--codes", "codes.npz", "seed=1"], 2, "only evaluation.KEY=VALUE may change"),
        (["diagnose", "--codes", "points.npz"], 2, "its codes are points"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_says_so(arguments, status, words):
    done = run(*arguments)
    assert done.exit_code == status, done.output
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
