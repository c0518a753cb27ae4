"""What happens to folders: nothing of the user's is deleted, no run is lost or trained twice."""

import inspect
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.foundation import text as text_module
from dpvae_cli.recipe.loading import to_yaml
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs import loaded_run, run_folder
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.training.train import Trainer, train
from tests.same import assert_same_run
from tests.small import SMALL, small_recipe

FIT = ("prior=standard_normal", "fitting.iterations=6", "fitting.batch_size=16")
RECIPE = "# mine\n" + to_yaml(small_recipe())
OWN_FILES = {"notes.txt": "months of thought", "photo.jpg": "a smile"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small_recipe("vae", *FIT), folder)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(whole):
    """Return a finished run, `runs/old`, to which runs/latest leads."""
    folder = shutil.copytree(whole, "runs/old")
    run_folder.update_latest_link(Path(folder))
    return Path(folder)


def dpvae(command, *arguments):
    quiet = ["--quiet"] if command in ("train", "eval", "fit-prior") else []
    return CliRunner().invoke(app, [command, *arguments, *quiet])


def retrain(*more):
    return dpvae("train", "vae_moons", *SMALL, "seed=1", *more)


def content(folder):
    """Return every file below a folder but the lock, with its bytes; links as where they lead."""
    return {
        path.relative_to(folder).as_posix(): (
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        )
        for path in Path(folder).rglob("*")
        if (path.is_file() or path.is_symlink()) and path.name != ".dpvae-lock"
    }


# --- nothing but a run's own files is deleted


@pytest.mark.parametrize("given", ["proj", ".", "{cwd}"])
def test_a_folder_of_the_users_own_is_never_replaced(given, tmp_path, monkeypatch):
    project = tmp_path / "proj"
    project.mkdir()
    for name, text in {**OWN_FILES, "recipe.yaml": RECIPE}.items():
        (project / name).write_text(text)
    before = content(project)
    if given != "proj":
        monkeypatch.chdir(project)
    recipe = "recipe.yaml" if given != "proj" else "proj/recipe.yaml"
    done = dpvae("train", recipe, "--run-dir", given.format(cwd=project), "--overwrite")
    assert done.exit_code == 2
    for name in ("notes.txt", "photo.jpg", "recipe.yaml"):
        assert name in done.stderr
    assert content(project) == before
    assert not (project / ".dpvae-lock").exists()


def test_a_recipe_that_a_run_did_not_write_is_neither_replaced_nor_resumed(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for option in ("--overwrite", "--resume"):
        done = dpvae("train", "recipe.yaml", "--run-dir", ".", option)
        assert done.exit_code == 2, done.output
        assert content(tmp_path) == {"recipe.yaml": RECIPE.encode()}


@pytest.mark.parametrize("name", ["notes.txt", "samples/holiday.png", "data/x.npy"])
def test_a_run_with_files_of_the_users_is_not_replaced(name, run):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    before = content(run)
    done = retrain("--run-dir", str(run), "--overwrite")
    assert done.exit_code == 2
    assert name.removesuffix("/x.npy") in done.stderr
    assert content(run) == before


def test_fit_prior_replaces_a_run_only(run, tmp_path):
    (tmp_path / "proj").mkdir()
    for name, text in OWN_FILES.items():
        (tmp_path / "proj" / name).write_text(text)
    done = dpvae("fit-prior", str(run), "--out", "proj", "--overwrite", *FIT[1:])
    assert done.exit_code == 2
    assert "notes.txt, photo.jpg" in done.stderr
    assert {p.name: p.read_text() for p in (tmp_path / "proj").iterdir()} == OWN_FILES


def test_fit_prior_of_codes_replaces_a_prior_file_only(tmp_path):
    np.savez("codes.npz", mean=np.random.default_rng(0).normal(size=(80, 2), scale=3))
    before = Path("codes.npz").read_bytes()
    arguments = ("fit-prior", "--codes", "codes.npz", *FIT[1:], "--overwrite", "--out")
    done = dpvae(*arguments, "codes.npz")
    assert done.exit_code == 2
    assert "codes.npz" in done.stderr
    assert Path("codes.npz").read_bytes() == before
    for _ in range(2):
        assert dpvae(*arguments, "prior.pt").exit_code == 0


# --- the old run is whole until the new one has a checkpoint

IMPOSSIBLE = {
    "data that is not there": (["data={kind: arrays, path: typo.npy}"], 3),
    "a batch that is too large": (["training.batch_size=500"], 2),
    "a likelihood that does not fit": (["likelihood=bernoulli"], 2),
    "a key that is not there": (["training.batchsize=5"], 2),
    "a run that diverges": (["training.learning_rate=1e30", "training.gradient_clip=null"], 5),
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_a_run_that_cannot_be_trained_replaces_nothing(reason, run):
    before = content(run)
    overrides, code = IMPOSSIBLE[reason]
    done = retrain(*overrides, "--run-dir", str(run), "--overwrite")
    assert done.exit_code == code, done.output
    assert content(run) == before


def test_a_fit_that_diverges_replaces_nothing(run, monkeypatch):
    assert dpvae("fit-prior", str(run), *FIT[1:]).exit_code == 0
    fitted = run.with_name("old-fit_decoupled")
    before = content(fitted)
    bad = ("fitting.learning_rate=1e30", "fitting.iterations=50")
    done = dpvae("fit-prior", str(run), *bad, "--overwrite")
    assert done.exit_code == 5, done.output
    assert content(fitted) == before


WRITING = (
    ["sample", "--low-posterior"],
    ["encode"],
    ["reconstruct"],
    ["traverse"],
    ["eval", "--metrics", "skl,nll"],
    ["diagnose", "--quick"],
    ["plot", "moons"],
)
"""Commands that write into a run folder."""


def test_a_run_is_replaced_whole(run, tmp_path):
    """What belongs to the old run is gone, and the log of TensorBoard goes on in its new place."""
    for command, *options in WRITING:
        assert dpvae(command, *options, str(run)).exit_code == 0
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.here").write_text("old")
    done = retrain("--run-dir", str(run), "--overwrite", "training.tensorboard=true")
    assert done.exit_code == 0, done.output
    train(small_recipe("vae", "seed=1", "training.tensorboard=true"), "other")
    assert_same_run(Path("other"), run)
    fresh, here = (
        {name for name in content(folder) if not name.startswith((".dpvae-", "tensorboard/"))}
        for folder in ("other", run)
    )
    assert here == fresh
    events = list((run / "tensorboard").iterdir())
    assert len(events) == 1, "opened at the first checkpoint"
    assert b"old" not in events[0].read_bytes()


def test_the_old_run_is_there_until_the_first_checkpoint(run, monkeypatch):
    before, seen, step = content(run), [], Trainer.step

    def look(trainer):
        seen.append({n: b for n, b in content(run).items() if not n.startswith(".dpvae-new/")})
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", look)
    assert retrain("--run-dir", str(run), "--overwrite").exit_code == 0
    assert seen[:5] == [before] * 5
    assert all(files["recipe.yaml"] != before["recipe.yaml"] for files in seen[5:])


# --- links, and names that are not plain ones


def test_a_run_behind_a_link_is_replaced_where_it_is(run):
    Path("mine").symlink_to(run)
    done = retrain("--run-dir", "mine", "--overwrite")
    assert done.exit_code == 0, done.output
    assert Path("mine").readlink() == run
    assert checkpoints.read_checkpoint(run / "checkpoint.pt").recipe.seed == 1


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_latest_as_a_folder_is_the_run_it_names(option, run):
    arguments = ("--run-dir", "runs/latest", option)
    recipe = () if option == "--resume" else ("vae_moons", *SMALL)
    done = dpvae("train", *recipe, "training.iterations=25", *arguments)
    assert done.exit_code == 0, done.output
    assert Path("runs/latest").readlink() == Path("old")
    assert not run.is_symlink()
    assert checkpoints.read_checkpoint(run / "checkpoint.pt").iteration == 25


def test_the_home_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert retrain("--run-dir=~/run").stdout.strip() == str(tmp_path / "home" / "run")
    done = dpvae("train", "--resume", "--run-dir=~/run", "training.iterations=25")
    assert done.exit_code == 0, done.output
    assert not Path("~").exists()


def test_a_run_that_is_named_by_a_link_is_one_run_whatever_the_link_says_later(run):
    """`eval runs/latest` keeps its results in the run whose checkpoint it read."""
    found = loaded_run.resolve_checkpoint(Path("runs/latest/best.pt"))
    assert found == run / "best.pt"
    assert loaded_run.resolve_checkpoint(Path("runs/latest")) == run / "checkpoint.pt"


def test_latest_never_becomes_a_folder():
    done = retrain("--run-dir", "runs/latest")
    assert done.exit_code == 2
    assert "runs/latest names the latest run" in done.stderr
    assert not os.path.lexists("runs/latest")


def test_latest_is_found_where_runs_is_a_link(whole, tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    Path("runs").symlink_to("disk/deep")
    done = retrain("--run-dir", "elsewhere/run")
    assert done.exit_code == 0, done.output
    assert Path("runs/latest").samefile("elsewhere/run")
    assert dpvae("sample").exit_code == 0


def test_a_dangling_latest_where_runs_is_a_link(tmp_path):
    """The run that it names was deleted; the next one is named, wherever it lies."""
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    Path("runs").symlink_to("disk/deep")
    Path("runs/latest").symlink_to("deleted")
    done = dpvae("sample")
    assert done.exit_code == 4
    assert "there is no runs/latest" in done.stderr
    for where in (("--run-dir", "elsewhere/run"), ()):
        done = retrain(*where)
        assert done.exit_code == 0, done.output
        assert Path("runs/latest").samefile(done.stdout.strip())
        assert dpvae("sample").exit_code == 0


def test_runs_that_leads_to_a_missing_folder_is_made_there(tmp_path):
    Path("runs").symlink_to("disk/deep")
    done = dpvae("sample")
    assert done.exit_code == 4
    assert "there is no runs/latest" in done.stderr
    done = retrain()
    assert done.exit_code == 0, done.output
    assert (tmp_path / "disk/deep/latest").samefile(done.stdout.strip())
    assert dpvae("sample").exit_code == 0


def test_a_link_to_itself_is_named():
    Path("loop").symlink_to("loop")
    done = retrain("--run-dir", "loop")
    assert done.exit_code == 2
    assert "loop is a link that leads to itself" in done.stderr


DOT = (
    ["train", "--resume", "--run-dir", ".", "training.iterations=22"],
    ["train", "vae_moons", *SMALL, "--run-dir", ".", "--overwrite"],
    ["eval", ".", "--metrics", "skl"],
    ["sample", "."],
    ["encode", "."],
    ["reconstruct", "."],
    ["traverse", "."],
    ["plot", "training", ".", "--out", "../curves.png"],
    ["fit-prior", ".", *FIT[1:]],
)


@pytest.mark.parametrize("command", DOT, ids=lambda command: " ".join(command[:2]))
def test_the_working_folder_is_a_folder(command, run, monkeypatch):
    monkeypatch.chdir(run)
    done = dpvae(*command)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    if command[0] == "eval":
        done = dpvae("report", ".", "--out", "../report")
        assert done.exit_code == 0, done.output


def test_a_fitted_run_can_go_into_the_working_folder(run, tmp_path, monkeypatch):
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    done = dpvae("fit-prior", "../runs/old", "--out", ".", *FIT[1:])
    assert done.exit_code == 0, done.output
    assert Path("checkpoint.pt").is_file()


# --- one run is held once


def test_a_run_of_two_names_is_trained_once(run):
    Path("mine").symlink_to(run)
    with RunFolder(run).lock():
        for name in ("mine", "runs/latest", str(run)):
            done = dpvae("train", "--resume", "--run-dir", name, "training.iterations=25")
            assert done.exit_code == 2
            assert "in use by another process" in done.stderr


def act_at(monkeypatch, iteration, act):
    """Let something happen in the middle of training."""
    step = Trainer.step

    def acting(trainer):
        if trainer.state.iteration == iteration:
            act()
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", acting)


def test_a_run_that_is_moved_stops_and_can_be_resumed(monkeypatch, tmp_path):
    act_at(monkeypatch, 12, lambda: Path("run").rename("moved"))
    done = retrain("--run-dir", "run")
    assert done.exit_code == 2, done.output
    assert "run folder run was moved or deleted" in done.stderr
    assert "dpvae train --resume --run-dir FOLDER" in done.stderr
    assert not Path("run").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert dpvae("train", "--resume", "--run-dir", "moved").exit_code == 0
    train(small_recipe("vae", "seed=1"), "whole")
    assert_same_run(Path("whole"), Path("moved"))


def test_a_run_that_is_deleted_is_an_error(monkeypatch):
    act_at(monkeypatch, 12, lambda: shutil.rmtree("run"))
    done = retrain("--run-dir", "run")
    assert done.exit_code == 2, done.output
    assert "was moved or deleted" in done.stderr
    assert not Path("run").exists()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_run_that_lost_its_lock_stops(is_replaced, monkeypatch):
    lock = Path("run/.dpvae-lock")

    def take():
        lock.unlink()
        if is_replaced:
            lock.touch()

    act_at(monkeypatch, 12, take)
    done = retrain("--run-dir", "run")
    assert done.exit_code == 2, done.output
    assert "lost its lock" in done.stderr
    assert checkpoints.read_checkpoint(Path("run/checkpoint.pt")).iteration == 10


# --- leftovers


def test_hidden_files_of_the_users_are_left_alone(run):
    for name in (".checkpoint.pt.20261128", ".recipe.yaml.original"):
        (run / name).write_text("mine")
    (run / ".dpvae-tmp-abcd1234").write_text("half")
    done = dpvae("train", "--resume", "--run-dir", str(run), "training.iterations=25")
    assert done.exit_code == 0
    hidden = {path.name for path in run.glob(".*")}
    assert hidden == {".checkpoint.pt.20261128", ".recipe.yaml.original", ".dpvae-lock"}


@pytest.mark.parametrize(
    "command", [["eval", "--metrics", "skl"], ["sample"], ["diagnose", "--quick"]]
)
def test_what_a_killed_command_left_goes_with_the_next(command, run):
    place = run / "samples" if command == ["sample"] else run
    place.mkdir(exist_ok=True)
    (place / ".dpvae-tmp-abcd1234").write_text("half")
    done = dpvae(command[0], str(run), *command[1:])
    assert done.exit_code == 0, done.output
    assert [path.name for path in run.rglob(".dpvae-tmp-*")] == []


def test_a_fit_that_was_cut_short_at_its_end_is_completed_by_resuming(tmp_path):
    recipe = small_recipe("vae", *FIT, "fit_prior=decoupled")
    train(recipe, "run")
    fit, log = Path("run/fit.json").read_text(), Path("run/metrics.jsonl").read_text()
    assert json.loads(log.splitlines()[-1])["kind"] == "fit"
    for lost in ("fit.json", "metrics.jsonl", "samples.png"):
        if lost == "metrics.jsonl":
            Path("run", lost).write_text("".join(log.splitlines(keepends=True)[:-1]))
        else:
            Path("run", lost).unlink()
        assert dpvae("train", "--resume", "--run-dir", "run").exit_code == 0
        assert Path("run/fit.json").read_text() == fit
        assert Path("run/metrics.jsonl").read_text() == log
        assert Path("run/samples.png").is_file()


# --- logs of any size


def test_a_log_of_any_size_is_read(run, monkeypatch):
    """Every command that reads metrics.jsonl; the limit of other texts is lowered."""
    monkeypatch.setitem(inspect.unwrap(text_module.read_text).__kwdefaults__, "limit", 20_000)
    log = run / "metrics.jsonl"
    line = log.read_text().splitlines()[0]
    log.write_text(f"{line}\n" * (20_000 // len(line) + 1) + log.read_text())
    before = len(log.read_text().splitlines())
    MetricsLog(log, keep_until=20).close()
    assert len(log.read_text().splitlines()) == before
    assert dpvae("fit-prior", str(run), *FIT[1:]).exit_code == 0
    fitted = run.with_name("old-fit_decoupled") / "metrics.jsonl"
    assert len(fitted.read_text().splitlines()) == before + 1
    assert dpvae("plot", "training", str(run)).exit_code == 0
    assert dpvae("train", "--resume", "--run-dir", str(run)).exit_code == 0
    assert dpvae("eval", str(run), "--metrics", "skl").exit_code == 0
    report = dpvae("report", str(run))
    assert report.exit_code == 0, report.output
    assert json.loads(Path("report/report.json").read_text())


@pytest.mark.slow
def test_a_log_of_257_megabytes_is_resumed(run):
    log = run / "metrics.jsonl"
    record = {"iteration": 1, "kind": "train", "pad": "x" * 2**19}
    with log.open("a") as file:
        for _ in range(2 * 257):
            file.write(json.dumps(record) + "\n")
    done = dpvae("train", "--resume", "--run-dir", str(run), "training.iterations=25")
    assert done.exit_code == 0, done.output


def test_two_options_that_exclude_each_other(run):
    done = retrain("--run-dir", str(run), "--resume", "--overwrite")
    assert done.exit_code == 2
    assert "exclude each other" in done.stderr
