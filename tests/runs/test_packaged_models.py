"""Packaged models: what they gave, they give; and they need no data.

`python -m tests.runs.test_packaged_models` measures models that golden_models.json does not have.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import dpvae_cli as dpvae
from dpvae_cli.cli.app import app
from dpvae_cli.explorer import content
from dpvae_cli.exporter import ExportError
from dpvae_cli.recipe import load_recipe
from dpvae_cli.runs import packaged
from dpvae_cli.runs.checkpoint import read_checkpoint
from dpvae_cli.runs.evaluate_run import evaluate_run
from dpvae_cli.runs.loaded_run import load_run
from dpvae_cli.sampling.samples import decode, prior_samples
from dpvae_cli.training.train import train
from tests.small import SMALL

GOLDEN = Path(__file__).with_name("golden_models.json")
NAMES = packaged.packaged_names()
MOONS = "beta_h_moons-decoupled"
MEGABYTES = 6


def measure(name):
    """Return numbers of a model, on the CPU, from the package alone."""
    run = load_run(Path(name), device="cpu")
    evaluation = run.recipe.evaluation.model_copy(update={"samples": 1_000})
    record, failed = evaluate_run(run, ["skl", "leak"], evaluation=evaluation)
    assert not failed
    skl, leak = record.results[:2]
    z = prior_samples(run.model, 3, generator=torch.Generator().manual_seed(0)).z
    return {
        "skl": skl.value,
        "leak": [value or 0.0 for value in leak.details["quantile_values"]],
        "z": z.tolist(),
        "decoded": decode(run.model, z).flatten(1).mean(dim=1).tolist(),
    }


def invoke(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DPVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPVAE_DATA", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_stay_what_they_were(name):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    found = measure(name)
    assert found.keys() == golden.keys()
    for key, values in golden.items():
        assert np.allclose(found[key], values, rtol=2e-3, atol=1e-4), key


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_whole(name):
    checkpoint = read_checkpoint(packaged.resolve_packaged(name))
    assert name == f"{checkpoint.recipe.name}-{checkpoint.recipe.prior_name}"
    assert checkpoint.iteration == checkpoint.recipe.training.iterations
    assert {each.partition(".")[0] for each in checkpoint.tensors} <= {
        *("model", "ema", "data", "fitted", "codes")
    }
    assert len(checkpoint.part("codes")["mean"]) <= packaged.MAX_CODES
    sizes = [path.stat().st_size for path in packaged.MODELS.iterdir()]
    assert sum(sizes) < MEGABYTES * 2**20


def test_models_ls():
    done = invoke("models", "ls")
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in NAMES)
    assert not list(Path().iterdir())


def test_a_name_in_python_writes_nothing():
    assert dpvae.load(MOONS).latent_dim == 2
    assert not list(Path().iterdir())


def test_a_name_is_unpacked_once_and_only_over_itself():
    run = load_run(Path(MOONS))
    assert run.path == Path("runs", MOONS, "checkpoint.pt")
    assert run.label == MOONS
    before = run.path.stat().st_mtime_ns
    assert load_run(Path(MOONS)).path.stat().st_mtime_ns == before
    (run.path).write_bytes(b"another")
    done = invoke("sample", MOONS)
    assert done.exit_code == 2
    assert f"runs/{MOONS} is another run than the packaged model" in done.stderr


def test_figures_and_reports_take_a_name_too():
    assert invoke("plot", "training", MOONS).exit_code == 0
    measured = invoke("eval", MOONS, "--metrics", "leak", "evaluation.samples=100", "--quiet")
    assert measured.exit_code == 0, measured.output
    done = invoke("report", MOONS)
    assert done.exit_code == 0, done.output
    assert Path("report", "report.html").is_file()


def test_a_run_of_one_s_own_comes_before_a_packaged_model():
    Path(MOONS).mkdir()
    done = invoke("sample", MOONS)
    assert done.exit_code == 4
    assert f"there is no checkpoint at {MOONS}/checkpoint.pt" in done.stderr
    assert "dpvae models ls" in done.stderr


@pytest.fixture(scope="module")
def without_data(tmp_path_factory):
    """Package a model of arrays that are gone, and return the folder of such models."""
    folder = tmp_path_factory.mktemp("models")
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.save(folder / "x.npy", x)
    own = [part for part in SMALL if not part.startswith("data.")]
    data = f"data={{kind: arrays, path: {folder / 'x.npy'}}}"
    recipe = load_recipe("vae_moons", [data, *own]).with_name("own")
    train(recipe, folder / "run")
    run = load_run(folder / "run")
    codes = run.encoded.aggregate_posterior()
    checkpoint = packaged.package(read_checkpoint(run.path), codes.mean, codes.log_variance)
    checkpoint.write(folder / "models" / "own-decoupled.safetensors")
    (folder / "x.npy").unlink()
    return folder / "models"


COMMANDS = (
    ("sample", "--low-posterior", "-n", "4"),
    ("traverse",),
    ("traverse", "--grid", "--steps", "4"),
    ("eval", "--metrics", "skl,leak", "--quiet"),
    ("explore",),
    ("fit-prior", "--prior", "mixture", "--quiet"),
)


def cannot_export(model):
    raise ExportError("not here")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_data_is_needed(command, without_data, monkeypatch):
    monkeypatch.setattr(packaged, "MODELS", without_data)
    monkeypatch.setattr(content, "pack_graphs", cannot_export)  # slow
    verb, *options = command
    done = invoke(verb, "own-decoupled", *options)
    assert done.exit_code == 0, done.output
    if verb == "traverse" and not options:
        assert "--between: without the data, 1 is a training example." in done.stderr


def test_what_needs_data_says_so(without_data, monkeypatch):
    monkeypatch.setattr(packaged, "MODELS", without_data)
    done = invoke("reconstruct", "own-decoupled")
    assert done.exit_code == 3
    assert "x.npy" in done.stderr


def test_codes_are_the_first_and_the_rest_is_noted(monkeypatch, without_data):
    checkpoint = read_checkpoint(without_data / "own-decoupled.safetensors")
    monkeypatch.setattr(packaged, "MAX_CODES", 7)
    mean = torch.arange(20.0).view(10, 2)
    few = packaged.package(checkpoint, mean, -mean)
    assert torch.equal(few.part("codes")["mean"], mean[:7])
    assert few.facts["data_note"] == "q(z) is over the first 7 of 10 training examples"


def main():
    """Write the numbers of models that have none yet."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        golden |= {name: measure(name) for name in NAMES if name not in golden}
    GOLDEN.write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
