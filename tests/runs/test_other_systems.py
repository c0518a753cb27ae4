"""What other systems lack is taken away: links, forks, process groups, POSIX locks and signals."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from dpvae_cli.cli.app import app
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.errors import CheckpointError, UntestedWarning
from dpvae_cli.runs import run_folder
from tests.small import SMALL
from tests.studies.tiny import written

ROOT = Path(__file__).parents[2]
TAKE_AWAY = """
import multiprocessing, os, signal, sys

for name in ("symlink", "setpgid", "getpgid", "killpg", "fork", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1"):
    delattr(signal, name)
sys.modules["fcntl"] = sys.modules["termios"] = None
multiprocessing.get_all_start_methods = lambda *_: ["spawn"]
"""
"""Python runs it at the start of every process that finds it as sitecustomize.py."""


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Return a function that runs Python in a folder where all that is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(TAKE_AWAY)

    def run(program, *arguments):
        found = {"PYTHONPATH": f"{tmp_path / 'bare'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=os.environ | found,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


COMMANDS = """
import sys
from dpvae_cli.cli.app import app

small = sys.argv[1:]
for words in (
    ["train", "vae_moons", *small],
    ["train", "--resume", "training.iterations=25"],
    ["sample", "-n", "4"],
    ["eval", "runs/latest", "--metrics", "skl"],
    ["report", "runs/latest"],
):
    try:
        app(words)
    except SystemExit as end:
        assert not end.code, words
"""


def test_a_run_needs_nothing_that_is_missing_elsewhere(bare):
    shown = bare(COMMANDS, *SMALL)
    latest = Path("runs/latest")
    assert not latest.is_symlink()
    assert latest.read_text() == "vae_moons-decoupled-seed0\n"
    assert run_folder.latest_run_dir() == Path("runs/vae_moons-decoupled-seed0")
    assert "runs/vae_moons-decoupled-seed0" in shown
    assert Path("report/report.html").is_file()
    assert not list(Path("runs").rglob(".dpvae-tmp-*"))


def test_a_study_spawns_its_workers_where_none_can_be_forked(bare, tmp_path):
    study = written(tmp_path)
    program = "import sys; from dpvae_cli.cli.app import app; app(sys.argv[1:])"
    bare(program, "reproduce", str(study), "--jobs", "2", "--threads", "1")
    assert len(list(tmp_path.glob("studies/*/*/checkpoint.pt"))) == 2


def test_a_file_that_names_no_run_is_no_latest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/latest").write_text("deleted\n")
    with pytest.raises(CheckpointError, match="there is no runs/latest"):
        run_folder.latest_run_dir()
    Path("runs/latest").write_text("x" * 100_000)
    with pytest.raises(CheckpointError, match="there is no runs/latest"):
        run_folder.latest_run_dir()


def test_a_link_takes_the_place_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/new").mkdir(parents=True)
    Path("runs/latest").write_text("old\n")
    run_folder.update_latest_link(Path("runs/new"))
    assert Path("runs/latest").readlink() == Path("new")


def test_mps_is_called_untested_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    devices._warn_of_mps.cache_clear()
    with pytest.warns(UntestedWarning, match="mps, where dpvae has not been tested"):
        assert devices.resolve().type == "mps"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert devices.resolve().type == "mps"
        assert devices.resolve("cpu").type == "cpu"
    devices._warn_of_mps.cache_clear()


def test_a_command_notes_it_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    devices._warn_of_mps.cache_clear()
    with pytest.raises(SystemExit):
        app(["doctor"])
    devices._warn_of_mps.cache_clear()
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "not been tested" in each]
    assert line.startswith("Note: computing on mps")
