"""The logged numbers reach every tracker, offline, and a resumed run goes on in the same place."""

import json
import sys
from pathlib import Path

import pytest

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text import read_json
from dpvae_cli.training.trackers import TRACKERS, Trackers
from dpvae_cli.training.train import train
from tests.small import small_recipe

LOGGED = {"train/loss", "train/terms/kl", "validation/elbo"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def run(*overrides, mode="new", tracker="mlflow"):
    train(small_recipe("vae", f"training.trackers=[{tracker}]", *overrides), "run", mode=mode)


def test_both_ways_to_ask_for_tensorboard_are_one():
    asked = ("training.tensorboard=true", "training.trackers=[tensorboard]")
    assert {small_recipe("vae", key).training.active_trackers for key in asked} == {
        ("tensorboard",)
    }
    assert small_recipe("vae", *asked).training.active_trackers == ("tensorboard",)
    assert small_recipe("vae").training.active_trackers == ()


def test_mlflow_has_numbers_and_recipe_and_goes_on_when_resumed():
    mlflow = pytest.importorskip("mlflow")
    run("training.iterations=10")
    run("training.iterations=20", mode="resume")
    client = mlflow.MlflowClient(tracking_uri=Path("run/mlflow").resolve().as_uri())
    experiment = client.get_experiment_by_name("dpvae").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.run_id == read_json(Path("run/trackers.json"))["mlflow"]
    assert found.info.status == "FINISHED"
    assert found.data.params["regularizer/kind"] == "vae"
    assert found.data.metrics.keys() >= LOGGED
    history = client.get_metric_history(found.info.run_id, "train/loss")
    losses = [
        record["loss"]
        for line in Path("run/metrics.jsonl").read_text().splitlines()
        if (record := json.loads(line))["kind"] == "train"
    ]
    assert [(metric.step, metric.value) for metric in history] == list(
        zip([5, 10, 15, 20], losses, strict=True)
    )


def test_mlflow_takes_a_shared_store(monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Path("shared").resolve().as_uri())
    run("training.iterations=5")
    run("training.iterations=5", mode="overwrite")
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("dpvae").experiment_id])
    assert len(runs) == 2
    assert not Path("run/mlflow").exists()


def test_wandb_writes_offline_and_keeps_its_name():
    wandb = pytest.importorskip("wandb")
    run("training.iterations=10", tracker="wandb")
    name = read_json(Path("run/trackers.json"))["wandb"]
    run("training.iterations=20", tracker="wandb", mode="resume")
    assert read_json(Path("run/trackers.json"))["wandb"] == name
    files = sorted(Path("run/wandb").glob(f"offline-run-*/run-{name}.wandb"))
    assert files
    assert all(b"train/terms/kl" in file.read_bytes() for file in files)
    assert wandb.run is None


def test_nothing_is_tracked_of_a_run_that_does_not_replace_the_old_one():
    pytest.importorskip("tensorboard")
    made = Trackers(["tensorboard"])
    made.write({"kind": "train", "iteration": 5, "loss": 1.0})
    made.close()
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_tracker_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[name].module, None)
    with pytest.raises(MissingError, match=f"asks for {name}, which is not installed") as caught:
        run(tracker=name)
    assert f"dpvae-cli[{name}]" in caught.value.hint
    assert not Path("run/checkpoint.pt").exists()


def test_an_error_of_a_tracker_names_it():
    pytest.importorskip("mlflow")
    Path("folder").mkdir()
    Path("folder/mlflow").write_text("a file")
    with pytest.raises(UsageError, match="cannot write for mlflow"):
        Trackers(["mlflow"]).open(Path("folder"), {})


def test_an_unknown_tracker_is_a_mistake_of_the_recipe():
    with pytest.raises(UsageError, match="did you mean wandb"):
        small_recipe("vae", "training.trackers=[wandbb]")
