import json
from pathlib import Path

import pytest
import torch
from jaxtyping import config

from dpvae_cli.cli.progress import LatestLink
from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.recipe import load_recipe
from dpvae_cli.runs import loaded_run, run_folder
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.training.train import train
from tests.small import small_recipe


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_leaves_its_files_and_latest_names_it(tmp_path):
    recipe = small_recipe()
    folder = run_folder.default_run_dir(recipe)
    assert str(folder) == "runs/vae_moons-decoupled-seed0"
    train(recipe, folder, callback=LatestLink())
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "recipe.yaml",
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "best.pt",
        "metrics.jsonl",
        "environment.json",
        "samples.png",
        ".dpvae-lock",
    }
    assert run_folder.latest_run_dir() == folder
    assert loaded_run.resolve_checkpoint(None) == folder / "checkpoint.pt"
    assert loaded_run.resolve_checkpoint(folder, best=True) == folder / "best.pt"
    assert load_recipe(folder / "recipe.yaml").with_name(recipe.name) == recipe
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__
    train(small_recipe("vae", "seed=1"), "runs/silent")
    assert run_folder.latest_run_dir() == folder
    train(small_recipe("vae", "seed=2"), "runs/other", callback=LatestLink())
    assert run_folder.latest_run_dir().name == "other"


def test_a_run_that_overwrites_is_the_latest_from_its_first_checkpoint(tmp_path):
    latest = []

    class Watch(LatestLink):
        def on_step(self, iteration):
            latest.append(Path("runs/latest").is_symlink())

    train(small_recipe(), "runs/old")
    recipe = small_recipe("vae", "seed=1")
    train(recipe, "runs/old", mode="overwrite", callback=Watch(overwrite=True))
    assert latest == [False] * 5 + [True] * 15
    assert run_folder.latest_run_dir().name == "old"


def test_a_folder_with_files_is_refused_unless_told_otherwise(tmp_path):
    train(small_recipe(), "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(UsageError, match="not empty"):
        train(small_recipe("vae", "seed=1"), "run")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    train(small_recipe("vae", "seed=1"), "run", mode="overwrite")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() != before


def test_an_unknown_mode_is_an_error_that_lists_the_known_ones(monkeypatch):
    monkeypatch.setattr(config, "jaxtyping_disable", True)  # which checks types under pytest alone
    with pytest.raises(UsageError, match="mode is 'again'") as caught:
        train(small_recipe(), "run", mode="again")
    assert caught.value.hint == "Use one of new, resume, resume_previous, overwrite."


def test_overwrite_never_deletes_what_is_no_run(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match="will not delete"):
        train(small_recipe(), "thesis", mode="overwrite")
    assert (tmp_path / "thesis" / "chapter.tex").is_file()


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        train(small_recipe(), "run")


def test_without_a_run_there_is_no_latest():
    with pytest.raises(CheckpointError, match="no checkpoint was named"):
        run_folder.latest_run_dir()


def test_misfits_are_refused_before_anything_is_written(tmp_path):
    for override, named in (
        ("likelihood=bernoulli", "bernoulli needs data of 0 and 1"),
        ("training.batch_size=500", "batch_size 500"),
    ):
        with pytest.raises(UsageError, match=named):
            train(small_recipe("vae", override), "run")
        assert not (tmp_path / "run").exists()


def test_metrics_hold_every_term_and_validation():
    train(small_recipe("factor"), "run")
    with Path("run/metrics.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
    first = lines[0]
    assert first["iteration"] == 5
    assert first["terms"].keys() == {"reconstruction", "kl", "total_correlation", "adversary"}
    assert first["loss"] == pytest.approx(sum(first["weighted"].values()), rel=1e-5)
    validation = [line for line in lines if line["kind"] == "validation"]
    assert [line["iteration"] for line in validation] == [10, 20]
    expected = {"elbo", "reconstruction", "kl", "active_units", "skl"}
    assert expected <= validation[0].keys()
    parts = validation[0]["reconstruction"] + validation[0]["kl"]
    assert validation[0]["elbo"] == pytest.approx(-parts)


def test_the_log_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 5}\n{"iteration": 10}\n{"iteration": 15}\n{"iter')
    log = MetricsLog(path, keep_until=10)
    log.write({"iteration": 11, "value": float("nan")})
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"iteration": 5}, {"iteration": 10}, {"iteration": 11, "value": None}]


def test_tensorboard_gets_the_logged_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small_recipe("vae", "training.tensorboard=true"), "run")
    events = EventAccumulator("run/tensorboard")
    events.Reload()
    assert {"train/loss", "train/terms/kl", "validation/elbo"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [5, 10, 15, 20]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        train(small_recipe(), tmp_path / "file" / "run")


def test_a_held_folder_is_refused_and_released(tmp_path):
    folder = run_folder.RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(UsageError, match="in use"):
        train(small_recipe(), tmp_path / "run")
    train(small_recipe(), tmp_path / "run")
