"""Scores of codes from the command line: on sprites, and what other data says to them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.runs.run_folder import RUN_FILE
from tests.cli.test_commands import ok, run
from tests.small import SMALL

TINY = [part for part in SMALL if not part.startswith("data.")]
SPRITES = "data={kind: sprites, shape: 3, scale: 2, orientation: 3, x: 3, y: 3}"
SCORES = ("mig", "dci", "sap", "factor_score", "beta_score")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("representation")
    generator = np.random.default_rng(0)
    np.save(folder / "x.npy", generator.normal(size=(60, 3)))
    np.save(folder / "factors.npy", generator.integers(0, 3, (60, 2)))
    arrays = "data={kind: arrays, path: x.npy"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ok("train", "vae_moons", SPRITES, "likelihood=bernoulli", *TINY, "--run-dir", "sprites")
        ok("train", "vae_moons", arrays + "}", *TINY, "--run-dir", "plain")
        ok("train", "vae_moons", arrays + ", factors: factors.npy}", *TINY, "--run-dir", "known")
        ok("train", "vae_moons", *SMALL, "--run-dir", "moons")
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def names(*arguments):
    done = ok("eval", *arguments, "--json")
    return {result["metric"] for result in json.loads(done.stdout)["runs"][0]["results"]}


def test_scores_on_sprites_are_kept():
    found = names("sprites", "--metrics", "mig,sap,probe")
    both = {"mig", "sap", "probe", "probe_knn"}
    assert found == both | {f"{name}_generation" for name in both}
    with open("sprites/metrics.json") as file:  # noqa: PTH123
        assert {result["metric"] for result in json.load(file)["results"]} == found


def test_factors_of_arrays_are_measured_against():
    assert "dci_generation" in names("known", "--metrics", "dci")


@pytest.mark.parametrize("name", SCORES)
def test_data_without_factors_says_which_data_have_them(name):
    done = run("eval", "moons", "--metrics", name)
    assert done.exit_code == 2
    assert "data moons has no known factors" in done.stderr
    assert "data.kind=sprites" in done.stderr


def test_several_scores_are_refused_with_one_reason():
    done = run("eval", "plain", "--metrics", "mig,dci,probe")
    assert done.exit_code == 2
    assert "mig, dci failed: data x has no known factors" in done.stderr
    assert "probe failed: data x has no labels" in done.stderr
    others = run("eval", "plain", "--metrics", "mig,skl")
    assert others.exit_code == 1
    assert "skl" in others.stdout


@pytest.mark.parametrize(("folder", "wanted"), [("moons", {"probe"}), ("plain", set())])
def test_all_takes_what_the_data_has(folder, wanted):
    assert names(folder, "--metrics", "all") & {*SCORES, "probe"} == wanted


def test_encode_writes_factors():
    ok("encode", "sprites", "--out", "codes.npz")
    codes = np.load("codes.npz")
    assert codes["factors"].shape == (len(codes["mean"]), 5)
    np.testing.assert_array_equal(codes["factors"][:, 0], codes["label"])


def test_dsprites_that_are_not_there():
    done = run("train", "vae_sprites", "data=dsprites", "--data-root", "nowhere")
    assert done.exit_code == 3
    assert "not found; looked in" in done.stderr


def test_a_factor_that_does_not_vary_is_named_and_rare_values_lose_no_metric():
    generator = np.random.default_rng(0)
    rare = (np.arange(60) == 0).astype(int)  # in no more than a few draws
    columns = [generator.integers(0, 3, 60), np.full(60, 7), rare]
    np.save("odd.npy", np.stack(columns, axis=1))
    data = "data={kind: arrays, path: x.npy, factors: odd.npy}"
    ok("train", "vae_moons", data, *TINY, "--run-dir", "odd")
    done = ok("eval", "odd", "--metrics", "mig,sap,dci,skl", "evaluation.factor_samples=20")
    assert "mig, mig_generation: factor 1 does not vary and is left out" in done.stderr
    assert {"mig", "sap", "dci", "skl"} <= set(done.stdout.split())


def crash(context):
    raise ZeroDivisionError("found by nobody")


def test_an_exception_in_one_metric_loses_no_other_and_is_logged(monkeypatch):
    monkeypatch.setitem(METRICS, "sap", replace(METRICS["sap"], function=f"{__name__}:crash"))
    done = run("eval", "known", "--metrics", "mig,sap,skl", "--json")
    assert done.exit_code == 1
    found = {result["metric"] for result in json.loads(done.stdout)["runs"][0]["results"]}
    assert {"mig", "skl"} <= found
    assert "known: sap failed: ZeroDivisionError: found by nobody" in done.stderr
    assert "Traceback" not in done.stderr
    assert "The traceback is in known/errors.log." in done.stderr
    log = Path("known/errors.log").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "in crash" in log
    alone = run("eval", "known", "--metrics", "sap")
    assert alone.exit_code == 1
    assert "Error: ZeroDivisionError: found by nobody" in alone.stderr
    assert Path("known/errors.log").read_text(encoding="utf-8").count("in crash") == 2
    assert RUN_FILE.fullmatch("errors.log"), "--overwrite may delete it"
