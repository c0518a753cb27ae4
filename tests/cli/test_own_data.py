"""One's own files at the command line: what is said of them, and hints that can be followed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.data.synthetic import draw_all

RANDOM = np.random.default_rng(0)
TINY = (
    *("architecture={kind: mlp, hidden: [4]}", "prior=standard_normal"),
    *("training.iterations=2", "training.batch_size=4", "evaluation.samples=10"),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(data, *more):
    return run("train", "vae_moons", f"data={data}", *TINY, *more)


def arrays(path):
    return f"{{kind: arrays, path: {path}}}"


def test_bits_in_bytes_train_under_bernoulli_as_they_are():
    np.save("x.npy", (RANDOM.random((40, 6)) < 0.4).astype(np.uint8))
    done = train(arrays("x.npy"), "likelihood=bernoulli")
    assert done.exit_code == 0, done.output
    np.save("y.npy", 16 * np.load("x.npy"))
    done = train(arrays("y.npy"), "likelihood=bernoulli", "--run-dir", "other")
    assert done.exit_code == 2
    assert "data.scale=unit divides images by 255" in done.stderr


def test_the_sizes_of_all_splits_are_said_at_the_start_and_in_a_dry_run():
    np.savez("x.npz", train=RANDOM.normal(size=(40, 2)), test=np.zeros((7, 2)), y=np.zeros(3))
    for more in ((), ("--dry-run",)):
        done = train(arrays("x.npz"), *more)
        assert done.exit_code == 0, done.output
        said = " ".join((done.stderr + done.stdout).split())
        assert "array y of x.npz is not used; is it labels?" in said
        if more:
            assert "train examples 36 validation examples 4 test examples 7" in said
        else:
            assert "36 training, 4 validation and 7 test examples" in said
    assert run("train", "vae_moons", "--dry-run").stdout.count("10,000") == 1


def test_folders_of_splits_are_said_too():
    for name, count in (("Train", 9), ("val", 3), ("testing", 4)):
        draw_all(Path("in") / name, count, width=8, height=8)
    Path("in/notes.txt").touch()
    done = train("{kind: folder, path: in, size: 4}")
    assert done.exit_code == 0, done.output
    assert "9 training, 3 validation and 4 test examples" in done.stderr
    assert "splits are the folders Train, val, testing" in done.stderr
    assert "do not have an image suffix: 1 .txt" in done.stderr


@pytest.mark.parametrize("kind", ["mnist", "svhn", "celeba", "dsprites", "binarized_mnist"])
def test_a_dry_run_says_that_data_is_not_there(kind, tmp_path):
    done = train(f"{{kind: {kind}}}", "--dry-run", "--data-root", tmp_path / "none")
    assert done.exit_code == 0, done.output
    assert "not there" in done.stdout


@pytest.mark.parametrize("architecture", ["conv", "mnist_conv", "svhn_conv", "celeba_conv"])
@pytest.mark.parametrize("shape", [(12, 28, 28, 3), (12, 28, 28)])
def test_channels_last_come_with_the_line_that_puts_them_first(architecture, shape):
    x = RANDOM.integers(0, 256, shape).astype(np.uint8)
    np.save("x.npy", x)
    done = train(arrays("x.npy"), f"architecture={architecture}", "--dry-run")
    assert done.exit_code == 2
    line = re.search(r"x = (numpy\.moveaxis\(x, -1, 1\)|x\[:, None\])", done.stderr)
    np.save("x.npy", eval(line[1], {"numpy": np, "x": x}))
    done = train(arrays("x.npy"), "architecture=conv", "--dry-run")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("rows", "hint"), [(8, "training.batch_size=6 or less"), (3, "2 examples or more")]
)
def test_a_batch_larger_than_the_data_names_one_that_is_accepted(rows, hint):
    np.save("x.npy", RANDOM.normal(size=(rows, 2)))
    done = train(arrays("x.npy"), "training.batch_size=100")
    assert done.exit_code == 2
    assert hint in done.stderr


@pytest.mark.parametrize(
    ("override", "meant"),
    [("data.noise=0,05", "0.05"), ("data.train=10,000", "10000")],
)
def test_a_comma_in_a_number_is_understood_as_it_was_meant(override, meant):
    done = run("train", "vae_moons", override, "--dry-run")
    assert done.exit_code == 2
    assert f"did you mean {meant}?" in done.stderr
    key = override.partition("=")[0]
    assert run("recipes", "validate", "vae_moons", f"{key}={meant}").exit_code == 0


def test_the_home_folder_is_meant_by_a_tilde_that_the_shell_left(here):
    done = run("train", "vae_moons", *TINY, "data.train=20", "--run-dir=~/x")
    assert done.exit_code == 0, done.output
    assert json.loads((here / "home/x/environment.json").read_text())["dpvae"]
    assert not (here / "~").exists()
    done = run("sample", "~/x", "-n", 2, "--out=~/pictures")
    assert done.exit_code == 0, done.output
    assert list((here / "home/pictures").iterdir())


def test_relative_paths_are_said_to_start_from_the_working_folder(here):
    for data in (arrays("x.npy"), "{kind: folder, path: x}"):
        done = train(data)
        assert done.exit_code == 3
        assert f"A relative path starts from the working folder, {here}" in done.stderr
        assert str(here / "x") in done.stderr
