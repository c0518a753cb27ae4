"""The order of cells, worker processes that live and die, and where they compute."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from dpvae_cli.cli.executor_options import ExecutorOptions
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.foundation.progress import handle_progress
from dpvae_cli.studies.executors.local import LocalExecutor, start_forkserver
from dpvae_cli.studies.messages import CellOptions, ignore_event
from dpvae_cli.studies.run_cell import run_cell
from dpvae_cli.training.train import train
from tests.studies import tasks
from tests.studies.tasks import fake_cells
from tests.studies.tiny import planned
from tests.training.test_resume import assert_same_run


def test_a_cell_has_a_process_and_a_device_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = LocalExecutor(["cuda:0", "cuda:1"], threads=3)
    outcomes = made.run(fake_cells(tmp_path, 6), tasks.note_process, ignore_event)
    assert sorted(outcome.cell for outcome in outcomes) == [f"cell{i}" for i in range(6)]
    told = {tuple(outcome.message.split()) for outcome in outcomes}
    assert len({process for process, _, _ in told}) == 6
    assert {device for _, device, _ in told} == {"cuda:0", "cuda:1"}
    assert {threads for _, _, threads in told} == {"3"}
    assert "OMP_NUM_THREADS" not in os.environ
    assert not multiprocessing.active_children()


def test_workers_take_over_what_the_parent_has_now(tmp_path, monkeypatch):
    """They are forked from a process that was started earlier, with one thread."""
    start_forkserver()
    monkeypatch.setenv("MARK", "set later")
    for threads in (1, 3):
        made = LocalExecutor(["cpu"], threads=threads)
        [outcome] = made.run(fake_cells(tmp_path, 1), tasks.note_threads, ignore_event)
        assert outcome.message == f"[{threads}] set later"


def test_a_worker_that_dies_is_replaced(tmp_path):
    events = []
    made = LocalExecutor(["cpu", "cpu"])
    outcomes = made.run(fake_cells(tmp_path, 3), tasks.die_at_first, events.append)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    lost = [event.message for event in events if event.status == "lost"]
    assert lost == ["its worker died (SIGKILL); trying again"] * 3


def test_a_cell_that_kills_its_workers_does_not_stop_the_study(tmp_path):
    outcomes = LocalExecutor(["cpu"], retries=1).run(
        fake_cells(tmp_path, 2), tasks.always_die, ignore_event
    )
    assert [outcome.status for outcome in outcomes] == ["failed"] * 2
    assert outcomes[0].message == "its worker died (exit code 3), 2 times"
    assert (tmp_path / "cell0.visits").read_text() == "2"


def test_keep_going_and_fail_fast(tmp_path):
    cells = fake_cells(tmp_path, 3)
    outcomes = LocalExecutor(["cpu"]).run(cells, tasks.fail_the_first, ignore_event)
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done"]
    (tmp_path / "fast").mkdir()
    cells = fake_cells(tmp_path / "fast", 3)
    outcomes = LocalExecutor(["cpu"], fail_fast=True).run(cells, tasks.fail_the_first, ignore_event)
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert not (tmp_path / "fast" / "cell1.visits").exists()


def test_a_busy_cell_waits_while_others_go_on(tmp_path):
    events = []
    cells = fake_cells(tmp_path, 3)
    (tmp_path / "cell1.visits").write_text("2")
    outcomes = LocalExecutor(["cpu"]).run(cells, tasks.busy_twice, events.append)
    assert [outcome.cell for outcome in outcomes] == ["cell1", "cell0", "cell2"]
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert [event.status for event in events].count("busy") == 2  # each is said once


def when(is_true, act):
    """Act, from a thread, as soon as something is true."""

    def watch():
        while not is_true():
            time.sleep(0.02)
        act()

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(number, tmp_path):
    events = []
    when(lambda: len(list(tmp_path.glob("*.visits"))) == 2, lambda: os.kill(os.getpid(), number))
    made = LocalExecutor(["cpu", "cpu"])
    with pytest.raises(InterruptedRun, match="0 of the 3 cells are done") as caught:
        made.run(fake_cells(tmp_path, 3), tasks.never_end, events.append)
    assert caught.value.signal_number == number
    assert sorted(event.status for event in events) == ["interrupted"] * 2 + ["started"] * 2
    assert not multiprocessing.active_children()


def test_a_worker_told_to_stop_by_somebody_else_goes_on(tmp_path):
    """Its cell goes on; only the study's own process can end the study."""
    events = []

    def kill(number):
        [child] = multiprocessing.active_children()
        os.kill(child.pid, number)

    path = tmp_path / "cell0.visits"
    when(lambda: path.exists() and path.read_text() == "1", lambda: kill(signal.SIGTERM))
    when(lambda: path.exists() and path.read_text() == "2", lambda: kill(signal.SIGKILL))
    made = LocalExecutor(["cpu"], retries=0)
    [outcome] = made.run(fake_cells(tmp_path, 1), tasks.never_end, events.append)
    assert outcome.status == "failed"
    lost = [event.message for event in events if event.status == "lost"]
    assert lost == ["its worker was told to stop; trying again"]


def test_workers_end_with_their_parent(tmp_path):
    code = (
        "from pathlib import Path; from tests.studies import tasks\n"
        "from dpvae_cli.studies.executors.local import LocalExecutor\n"
        f"cells = tasks.fake_cells(Path({str(tmp_path)!r}), 1)\n"
        "LocalExecutor(['cpu']).run(cells, tasks.note_and_wait, print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    path = tmp_path / "cell0.pid"
    wait_for(path.exists)
    time.sleep(0.1)
    process.kill()
    process.wait()
    worker = int(path.read_text())
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


def wait_for(is_true, seconds=60):
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_killed_cell_ends_as_if_nothing_had_happened(tmp_path):
    [cell] = planned(
        tmp_path,
        "prior=decoupled",
        "training.iterations=600",
        "training.checkpoint_every=50",
        "training.validate_every=200",
    ).cells
    events, progress = [], []

    def kill():
        [worker] = multiprocessing.active_children()
        worker.kill()

    when((Path(cell.folder) / "checkpoint.pt").is_file, kill)
    task = partial(run_cell, options=CellOptions())
    with handle_progress(progress.append):
        [outcome] = LocalExecutor(["cpu"]).run([cell], task, events.append)
    assert outcome.status == "done"
    assert [event.status for event in events].count("lost") == 1
    again = [event for event in events if event.status == "started"][-1]
    assert again.message == "from its checkpoint"
    assert any(event.task == cell.name and event.total == 600 for event in progress)
    assert progress[-1].is_finished
    train(cell.recipe, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", Path(cell.folder))


def devices_of(cells, device="auto", **options):
    return ExecutorOptions("local", device, **options).local_devices(cells)


def test_workers_on_a_cpu(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cpu"])
    monkeypatch.setattr("dpvae_cli.cli.executor_options.cores", lambda: 16)
    assert devices_of(50) == ["cpu"] * 8
    assert devices_of(50, threads=4) == ["cpu"] * 4
    assert devices_of(50, "cpu", jobs=12) == ["cpu"] * 12
    assert devices_of(3, "cpu") == ["cpu"] * 3
    assert devices_of(0, "cpu") == ["cpu"]


def test_workers_on_gpus(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cpu", "cuda:0", "cuda:1"])
    both = ["cuda:0", "cuda:1"]
    assert devices_of(50) == both
    assert devices_of(50, gpu_share=0.5) == both * 2
    assert devices_of(50, jobs=3, gpu_share=0.34) == [*both, "cuda:0"]
    assert devices_of(5, gpu_share=0.1) == [*both, *both, "cuda:0"]
    with pytest.raises(UsageError, match="room for 2") as caught:
        devices_of(50, jobs=4)
    assert "--gpu-share 0.5" in caught.value.hint
