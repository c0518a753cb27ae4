"""No command can open a checkpoint of networks of the caller's own; each says who can."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.training.train import train
from tests.small import own_vae, small_recipe

CHECKPOINT = "own/checkpoint.pt"
COMMANDS = [
    *(["sample", option] for option in ("own", CHECKPOINT)),
    ["sample", "own", "--low-posterior"],
    ["eval", "own"],
    ["eval", "ordinary", "own", "--metrics", "skl"],
    ["traverse", "own"],
    ["encode", "own"],
    ["reconstruct", "own"],
    *(["plot", figure, "own"] for figure in ("moons", "regularizers", "leakage", "samples")),
]
RESUME = [
    ["train", "--resume", "--run-dir", "own"],
    ["train", "--resume", "--run-dir", "own", "--dry-run"],
    ["train", "vae_moons", "--resume", "--run-dir", "own"],
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    train(small_recipe(), folder / "own", model=own_vae())
    train(small_recipe(), folder / "ordinary")
    return folder


@pytest.fixture(autouse=True)
def there(workshop, monkeypatch):
    monkeypatch.chdir(workshop)


def refused(arguments):
    """Run a command and return the one line it says."""
    before = {path: path.stat().st_mtime_ns for path in _files()}
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 4, done.output
    assert done.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in _files()} == before
    [line] = done.stderr.splitlines()
    return line


def _files():
    return [path for path in Path().rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_names_the_call_that_opens_it(arguments):
    line = refused(arguments)
    assert "the caller's own encoder (PairEncoder, 60 parameters)" in line
    assert f"dpvae.load('{CHECKPOINT}', encoder=..., decoder=...)" in line


@pytest.mark.parametrize("arguments", RESUME, ids=" ".join)
def test_resuming_names_the_call_that_goes_on(arguments):
    line = refused(arguments)
    assert "dpvae.train(recipe, 'own', model=..., mode='resume')" in line
    assert "dpvae.load('own', encoder=..., decoder=...)" in line


def test_training_curves_need_no_model():
    done = CliRunner().invoke(app, ["plot", "training", "own", "--out", "curves.png"])
    assert done.exit_code == 0, done.output


def test_a_recipe_of_own_networks_cannot_be_trained_from_here():
    for more in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, ["train", "own/recipe.yaml", "--run-dir", "new", *more])
        assert done.exit_code == 2
        assert "exist in Python alone" in done.stderr
        assert "dpvae.train(recipe, run_dir, model=" in done.stderr
