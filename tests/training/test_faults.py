"""What the machine refuses: a clear error, whole files, and a run that goes on bit for bit."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.foundation import files
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import BEST, CURRENT, PREVIOUS
from dpvae_cli.training.events import Callback
from dpvae_cli.training.train import Trainer, train
from tests.same import assert_same_run
from tests.small import SMALL, small_recipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small_recipe(), folder)
    return folder


def no_half_files(folder):
    """Tell whether nothing hidden is in a folder but the lock of a run; there may be no folder."""
    return {path.name for path in folder.glob(".*")} <= {".dpvae-lock"}


class FullAfter(io.FileIO):
    """A file on a disk with limited space; half of the write that exceeds it is written."""

    room = 0

    def write(self, data):
        if len(data) <= FullAfter.room:
            FullAfter.room -= len(data)
            return super().write(data)
        os.write(self.fileno(), bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("room", [3_000, 12_000, 30_000, 60_000, 90_000])
def test_a_full_disk_leaves_the_last_checkpoint(room, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(FullAfter, "room", room)
    with monkeypatch.context() as patched:
        patched.setattr(files, "FileIO", FullAfter)
        with pytest.raises(UsageError, match="No space left on device"):
            train(small_recipe(), tmp_path / "run")
    assert no_half_files(tmp_path / "run")
    for name in (CURRENT, PREVIOUS, BEST):
        if (tmp_path / "run" / name).is_file():
            checkpoints.read_checkpoint(tmp_path / "run" / name)
    is_run = (tmp_path / "run" / "recipe.yaml").is_file()
    train(small_recipe(), tmp_path / "run", mode="resume" if is_run else "new")
    assert_same_run(whole, tmp_path / "run")


class FullLog(io.FileIO):
    """A log of a disk that fills up: the third record is cut."""

    written = 0

    def write(self, data):
        FullLog.written += 1
        if FullLog.written == 3:
            return super().write(data[:7])  # what is left is asked for again
        if FullLog.written > 3:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_leaves_no_half_line_in_the_log(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(FullLog, "written", 0)
    with monkeypatch.context() as patched:
        patched.setattr("dpvae_cli.runs.metrics_log.FileIO", FullLog)
        with pytest.raises(UsageError, match=r"metrics\.jsonl: No space left on device"):
            train(small_recipe(), tmp_path / "run")
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text.endswith("}\n")
    assert text.count("\n") == 2
    train(small_recipe(), tmp_path / "run", mode="resume")
    assert_same_run(whole, tmp_path / "run")


def test_a_log_that_lost_its_numbers_is_read_all_the_same(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": "x"}\n[1]\nnull\n\xff\xfe\n{"iteration": 4}\n{"iteration": 5')
    MetricsLog(path, keep_until=9).close()
    assert path.read_text() == '{"iteration": 4}\n'


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20_000])
def test_a_real_file_size_limit_is_an_error_and_no_signal(limit, tmp_path):
    """The kernel would end the process with SIGXFSZ; Python asks it not to."""
    code = (
        "import resource, sys; from dpvae_cli.__main__ import main; import torch;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv[0] = 'dpvae'; main()"
    )
    run = ["train", "vae_moons", *SMALL, "training.log_every=1000", "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *run],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert no_half_files(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert done.returncode != -signal.SIGXFSZ
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit


def refuse_writing(monkeypatch, folder, error):
    """Let no file be made in a folder; root may write anywhere, so a test must refuse by itself."""
    original = files.tempfile.mkstemp

    def mkstemp(*arguments, **options):
        if Path(options["dir"]) == folder:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)


REFUSALS = {
    "read-only": OSError(30, "Read-only file system"),
    "denied": PermissionError(13, "Permission denied"),
    "quota": OSError(122, "Disk quota exceeded"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_folder_that_becomes_unwritable_is_an_error(reason, whole, tmp_path, monkeypatch):
    run = shutil.copytree(whole, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    refuse_writing(monkeypatch, run, REFUSALS[reason])
    arguments = ["train", "--resume", "--run-dir", str(run), "training.iterations=30"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert str(REFUSALS[reason].strerror) in done.stderr
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("reason", REFUSALS)
def test_results_are_not_lost_where_they_cannot_be_kept(reason, whole, tmp_path, monkeypatch):
    run = shutil.copytree(whole, tmp_path / "run")
    refuse_writing(monkeypatch, run, REFUSALS[reason])
    done = CliRunner().invoke(app, ["eval", str(run), "--metrics", "skl,nll", "--quiet"])
    assert done.exit_code == 1
    assert "skl" in done.stdout
    assert "nll" in done.stdout
    assert f"metrics.json failed: cannot write {run / 'metrics.json'}" in done.stderr
    assert not (run / "metrics.json").exists()


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        train(small_recipe(), tmp_path / "run")


def test_data_that_vanished_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = torch.rand(60, 2).numpy()
    np.save("x.npy", x)
    small = [part for part in SMALL if not part.startswith("data.")]
    recipe = ["vae_moons", "data={kind: arrays, path: x.npy}", *small]
    assert CliRunner().invoke(app, ["train", *recipe, "--run-dir", "run", "-q"]).exit_code == 0
    Path("x.npy").unlink()
    commands = (
        ["train", "--resume", "--run-dir", "run", "training.iterations=30"],
        ["eval", "run", "--metrics", "nll"],
        ["encode", "run"],
    )
    before = Path("run/checkpoint.pt").read_bytes()
    for command in commands:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 3, done.output
        assert "x.npy" in done.stderr
    assert Path("run/checkpoint.pt").read_bytes() == before
    assert CliRunner().invoke(app, ["sample", "run"]).exit_code == 0, "needs the checkpoint alone"


def test_overwriting_that_is_cut_short_is_completed_by_the_next_command(
    whole, tmp_path, monkeypatch
):
    run = shutil.copytree(whole, tmp_path / "run")
    original, count = Path.replace, 0

    def cut(path, target):
        nonlocal count
        count += path.parent.name == ".dpvae-new" and target.parent == run
        if count > 2:
            raise OSError(5, "Input/output error")
        return original(path, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(OSError, match="Input/output"):
        train(small_recipe("vae", "seed=1"), run, mode="overwrite")
    assert (run / ".dpvae-new" / "checkpoint.pt").is_file()
    assert checkpoints.read_checkpoint(run / "checkpoint.pt").recipe.seed == 0, "moved last"
    monkeypatch.setattr(Path, "replace", original)
    train(small_recipe("vae", "seed=1"), run, mode="resume")
    assert checkpoints.read_checkpoint(run / "checkpoint.pt").recipe.seed == 1
    assert no_half_files(run)


def test_a_start_that_was_killed_at_its_first_file_can_be_repeated(whole, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".dpvae-tmp-k2_x81ab").write_text("data: mo")
    train(small_recipe(), tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")
    assert no_half_files(tmp_path / "run")


def test_the_checkpoint_before_the_last_one_is_kept(whole):
    assert checkpoints.read_checkpoint(whole / "checkpoint.pt").iteration == 20
    assert checkpoints.read_checkpoint(whole / "checkpoint.previous.pt").iteration == 15


def test_a_lost_checkpoint_is_not_begun_anew_silently(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "checkpoint.pt").unlink()
    done = CliRunner().invoke(app, ["train", "--resume", "--run-dir", str(run)])
    assert done.exit_code == 4
    assert "--from-previous" in done.stderr


def test_a_state_is_saved_once(tmp_path):
    """A signal right after a checkpoint must not push the one before out."""

    class Signal(Callback):
        def on_step(self, iteration):
            if iteration == 10:
                os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(InterruptedRun):
        train(small_recipe(), tmp_path / "run", callback=Signal())
    assert checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.previous.pt").iteration == 5


LACKS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("lack", LACKS)
def test_a_step_without_memory_names_the_batch_size(lack, tmp_path, monkeypatch):
    step = Trainer.step

    def grows(trainer):
        if trainer.state.iteration == 12:
            raise LACKS[lack]
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", grows)
    run = ["train", "vae_moons", *SMALL, "--run-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 2
    assert "memory ran out in a step of training.batch_size=16" in done.stderr
    assert "training.batch_size=8" in done.stderr
    assert checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt").iteration == 10


@pytest.mark.slow
def test_a_real_limit_of_memory_names_the_batch_size(tmp_path):
    """Torch is there already when the limit comes: of the step alone it is too little."""
    code = (
        "import resource, sys; import torch; from dpvae_cli.training.train import Trainer;"
        "from dpvae_cli.__main__ import main; torch.set_num_threads(1)\n"
        "def limited(self, step=Trainer.step):\n"
        "    size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (size + 30_000_000,) * 2)\n"
        "    return step(self)\n"
        "Trainer.step = limited; main()"
    )
    big = ["data.train=200000", "training.batch_size=100000", "architecture.hidden=[512]"]
    run = ["train", "vae_moons", *SMALL, *big, "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *run],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "memory ran out in a step of training.batch_size=100000" in done.stderr
    assert "Traceback" not in done.stderr
