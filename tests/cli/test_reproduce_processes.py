"""`dpvae reproduce` as processes: in company on one study, and interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.studies.tiny import written


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def start(*arguments):
    command = [
        sys.executable,
        "-m",
        "dpvae_cli",
        "reproduce",
        *map(str, arguments),
        "--device",
        "cpu",
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def checkpoints():
    return sorted(Path("studies/tiny").glob("*/checkpoint.pt"))


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    path = written(tmp_path, axes={"prior": ["decoupled"], "seed": [0, 1, 2]})
    both = [start(path, "--jobs", 1, "training.iterations=200") for _ in range(2)]
    ended = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    begun = sum(stderr.count(": started") for _, stderr in ended)
    # A process may take the other's first steps for those of its own job, but says so only once.
    assert 3 <= begun <= 6, ended
    assert len(checkpoints()) == 3


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    """A terminal sends it to the whole group of processes."""
    path = written(tmp_path, axes={"prior": ["decoupled"]}, metrics=[])
    endless = "training.iterations=1000000"
    process = start(path, endless)
    try:
        for _ in range(1_200):
            if checkpoints() or process.poll() is not None:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "0 of the 1 cells are done" in stderr
    assert "The same command resumes them." in stderr
    assert "Traceback" not in stderr
    assert (
        "stopped at "
        in CliRunner().invoke(app, ["reproduce", str(path), endless, "--dry-run"]).stdout
    )
    assert os.listdir("studies") == ["tiny"]  # noqa: PTH208
