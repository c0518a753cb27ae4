"""Data that is not what a run was trained on: refused by --resume, warned of elsewhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.loaded_run import load_run
from tests.cli.test_commands import ok, run
from tests.small import SMALL

QUICK = [part for part in SMALL if not part.startswith("data.")]
ROWS = np.random.default_rng(0).normal([100, -3], [20, 0.1], (80, 2))
WARNING = "Warning: data x is not what this run was trained on:"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with data and a run of it."""
    folder = tmp_path_factory.mktemp("changed")
    np.save(folder / "x.npy", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = "data={kind: arrays, path: x.npy, scale: standardize}"
        ok("train", "vae_moons", data, *QUICK, "--run-dir", "run")
    return folder


@pytest.fixture(autouse=True)
def there(trained, tmp_path, monkeypatch):
    """Work in a copy."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


NEEDS_DATA = [
    ["encode", "run"],
    ["reconstruct", "run", "-n", "2"],
    ["eval", "run", "--metrics", "elbo"],
    ["diagnose", "run", "--quick"],
    ["traverse", "run", "--between", "0", "1"],
    ["fit-prior", "run", "--prior", "{kind: mixture, components: 2}", "fitting.iterations=2"],
    ["plot", "moons", "run"],
]


@pytest.mark.parametrize("arguments", NEEDS_DATA, ids=lambda words: words[0])
def test_commands_warn_of_other_values(arguments):
    assert WARNING not in ok(*arguments).stderr
    shutil.rmtree("run-fit_mixture", ignore_errors=True)
    for kept in ("checkpoint.encodings.npz", "portrait.npz"):
        Path("run", kept).unlink(missing_ok=True)
    np.save("x.npy", ROWS + 1)
    done = ok(*arguments)
    assert done.stderr.count(WARNING) == 1
    assert "other values in train, validation, test" in done.stderr


def test_what_changed_is_named():
    np.save("x.npy", ROWS[:70])
    done = ok("encode", "run")
    sizes = "train has 56 examples, 64 then, validation has 7 examples, 8 then, test has 7"
    assert sizes in done.stderr
    results = json.loads(ok("eval", "run", "--metrics", "elbo", "--json").stdout)
    [result, *_] = results["runs"][0]["results"]
    assert "not the data of the training: train has 56" in result["details"]["data_note"]


def test_resume_refuses_other_data_and_takes_the_same():
    np.save("x.npy", ROWS + 1)
    done = run("train", "--resume", "--run-dir", "run", "training.iterations=25")
    assert done.exit_code == 2
    assert "--resume: data x is not what the run was trained on: other values" in done.stderr
    np.save("x.npy", ROWS)
    ok("train", "--resume", "--run-dir", "run", "training.iterations=25")


def test_examples_of_another_shape_are_refused_with_advice():
    np.save("x.npy", np.random.default_rng(0).normal(size=(80, 3)))
    for arguments in (*NEEDS_DATA, ["train", "--resume", "--run-dir", "run"]):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert "shape (3,), the run was trained on examples of shape (2,)" in done.stderr
        assert "Put back the data" in done.stderr


def test_other_data_is_standardized_by_the_constants_of_the_run(tmp_path):
    """A row means the same to the encoder whatever stands beside it in the file."""
    ok("encode", "run", "--split", "train", "--out", tmp_path / "before.npz")
    changed = ROWS.copy()
    order = np.random.default_rng(0).permutation(80)
    changed[order[-16:]] += 1_000  # of validation and test, which are dealt last
    changed[order[0]] += 500  # and one that moments come from
    np.save("x.npy", changed)
    ok("encode", "run", "--split", "train", "--out", tmp_path / "after.npz")
    before, after = (np.load(tmp_path / f"{name}.npz")["mean"] for name in ("before", "after"))
    np.testing.assert_allclose(after[1:], before[1:], rtol=1e-4, atol=1e-5)
    assert np.abs(after[0] - before[0]).max() > 1e-2
    ok("reconstruct", "run", "--split", "test", "-n", 8, "--out", tmp_path)
    shown = np.load(tmp_path / "test.npz")["x"]
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(changed[order[-8:]], axis=0), 1e-4)


def test_nothing_made_of_other_data_is_kept_as_the_run_s():
    np.save("x.npy", ROWS + 1)
    ok("sample", "run", "--low-posterior", "-n", 2)
    ok("plot", "moons", "run")
    names = {"checkpoint.encodings.npz", "portrait.npz"}
    assert not names & {path.name for path in Path("run").iterdir()}
    fit = ("--prior", "{kind: mixture, components: 2}", "fitting.iterations=2")
    ok("fit-prior", "run", *fit)
    assert not Path("run-fit_mixture/checkpoint.encodings.npz").exists()


def test_checkpoints_from_before_are_compared_by_their_training_split():
    path = Path("run/checkpoint.pt")
    saved = checkpoints.read_checkpoint(path)
    facts = {name: value for name, value in saved.facts.items() if name != "data_splits"}
    facts["data_fingerprint"] = load_run("run").load_dataset().fingerprint()
    replace(saved, facts=facts).write(path)
    assert WARNING not in ok("encode", "run").stderr
    np.save("x.npy", ROWS**2)
    assert "the training split has other values" in ok("encode", "run").stderr


@pytest.mark.parametrize("fact", [3, {"train": 3}, {"train": {"examples": "x"}}, None])
def test_odd_facts_are_no_traceback(fact):
    path = Path("run/checkpoint.pt")
    saved = checkpoints.read_checkpoint(path)
    replace(saved, facts=saved.facts | {"data_splits": fact}).write(path)
    ok("encode", "run")
