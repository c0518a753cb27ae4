"""The order of cells, worker processes that live and die, and where they compute."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from dpvae_cli.foundation import devices
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.studies.cell import run_cell
from dpvae_cli.studies.cells import Options, Outcome, silent
from dpvae_cli.studies.executors.base import Schedule
from dpvae_cli.studies.executors.local import LocalExecutor, prepare
from dpvae_cli.studies.executors.slots import slots
from dpvae_cli.studies.state import recipe_of
from dpvae_cli.training.train import train
from tests.studies import tasks
from tests.studies.tasks import fake_cells
from tests.studies.tiny import planned
from tests.training.test_resume import assert_same_run


def schedule(tmp_path, count=3, **options):
    events = []
    return Schedule(fake_cells(tmp_path, count), events.append, **options), events


def test_cells_come_in_order_and_lost_ones_come_first(tmp_path):
    made, events = schedule(tmp_path)
    first, second = made.next(), made.next()
    assert (first.name, second.name) == ("cell0", "cell1")
    made.lost(first, "its worker died (SIGKILL)")
    assert made.next() is first
    made.ended(second, Outcome("cell1", "done"))
    assert [event.kind for event in events] == ["lost", "done"]
    assert not made.is_empty


def test_a_cell_that_is_always_lost_has_failed(tmp_path):
    made, events = schedule(tmp_path, 1, retries=2)
    for _ in range(3):
        made.lost(made.next(), "its worker died (exit code 3)")
    assert made.is_empty
    [outcome] = made.outcomes
    assert outcome.end == "failed"
    assert outcome.message == "its worker died (exit code 3), 3 times"
    assert [event.kind for event in events] == ["lost", "lost", "failed"]


def test_a_busy_cell_waits_while_others_go_on(tmp_path):
    made, events = schedule(tmp_path, 2, pause=0.05)
    first = made.next()
    made.ended(first, Outcome("cell0", "busy"))
    assert made.next().name == "cell1"
    assert made.next() is None
    assert not made.is_empty
    time.sleep(0.06)
    assert made.next() is first
    made.ended(first, Outcome("cell0", "busy"))
    assert [event.kind for event in events] == ["busy"]  # said once


def test_fail_fast_starts_nothing_more(tmp_path):
    made, _ = schedule(tmp_path, fail_fast=True)
    made.ended(made.next(), Outcome("cell0", "failed"))
    assert made.is_stopped
    assert made.next() is None
    made, _ = schedule(tmp_path)
    made.ended(made.next(), Outcome("cell0", "failed"))
    assert made.next().name == "cell1"


def test_workers_stay_warm_each_on_its_device(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = LocalExecutor(["cuda:0", "cuda:1"], threads=3)
    outcomes = made.run(fake_cells(tmp_path, 8), tasks.note_process, silent)
    assert sorted(outcome.cell for outcome in outcomes) == [f"cell{i}" for i in range(8)]
    told = {tuple(outcome.message.split()) for outcome in outcomes}
    assert len({process for process, _, _ in told}) == len(told) <= 2
    assert {device for _, device, _ in told} <= {"cuda:0", "cuda:1"}
    assert {threads for _, _, threads in told} == {"3"}
    assert "OMP_NUM_THREADS" not in os.environ
    assert not multiprocessing.active_children()


def test_workers_take_over_what_the_parent_has_now(tmp_path, monkeypatch):
    """They are forked from a process that was started earlier, with one thread."""
    prepare()
    monkeypatch.setenv("MARK", "set later")
    for threads in (1, 3):
        made = LocalExecutor(["cpu"], threads=threads)
        [outcome] = made.run(fake_cells(tmp_path, 1), tasks.note_threads, silent)
        assert outcome.message == f"[{threads}] set later"


def test_a_worker_that_dies_is_replaced(tmp_path):
    events = []
    made = LocalExecutor(["cpu", "cpu"])
    outcomes = made.run(fake_cells(tmp_path, 3), tasks.die_at_first, events.append)
    assert [outcome.end for outcome in outcomes] == ["done"] * 3
    lost = [event.text for event in events if event.kind == "lost"]
    assert lost == ["its worker died (SIGKILL); trying again"] * 3


def test_a_cell_that_kills_its_workers_does_not_stop_the_study(tmp_path):
    outcomes = LocalExecutor(["cpu"], retries=1).run(
        fake_cells(tmp_path, 2), tasks.always_die, silent
    )
    assert [outcome.end for outcome in outcomes] == ["failed"] * 2
    assert outcomes[0].message == "its worker died (exit code 3), 2 times"
    assert (tmp_path / "cell0.visits").read_text() == "2"


def test_keep_going_and_fail_fast(tmp_path):
    cells = fake_cells(tmp_path, 3)
    outcomes = LocalExecutor(["cpu"]).run(cells, tasks.fail_the_first, silent)
    assert [outcome.end for outcome in outcomes] == ["failed", "done", "done"]
    (tmp_path / "fast").mkdir()
    cells = fake_cells(tmp_path / "fast", 3)
    outcomes = LocalExecutor(["cpu"], fail_fast=True).run(cells, tasks.fail_the_first, silent)
    assert [outcome.end for outcome in outcomes] == ["failed"]
    assert not (tmp_path / "fast" / "cell1.visits").exists()


def test_busy_cells_are_done_in_the_end(tmp_path):
    outcomes = LocalExecutor(["cpu"]).run(fake_cells(tmp_path, 2), tasks.busy_at_first, silent)
    assert [outcome.end for outcome in outcomes] == ["done", "done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(number, tmp_path):
    begun = []

    def note(event):
        begun.append(event)
        if len(begun) == 2:
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

    made = LocalExecutor(["cpu", "cpu"])
    with pytest.raises(InterruptedRun, match="0 of the 3 cells are done") as caught:
        made.run(fake_cells(tmp_path, 3), tasks.never_end, note)
    assert caught.value.signal_number == number
    assert sorted(event.kind for event in begun[2:]) == ["interrupted"] * 2
    assert not multiprocessing.active_children()


def test_a_worker_told_to_stop_by_somebody_else_is_replaced(tmp_path):
    """Its cell goes on; only the study's own process can end the study."""
    events = []

    def once(event):
        events.append(event)
        if event.kind == "started":
            [child] = multiprocessing.active_children()
            number = signal.SIGTERM if len(events) == 1 else signal.SIGKILL
            os.kill(child.pid, number)

    made = LocalExecutor(["cpu"], retries=1)
    [outcome] = made.run(fake_cells(tmp_path, 1), tasks.never_end, once)
    assert outcome.end == "failed"
    assert events[1].text == "its worker was told to stop; trying again"


def test_a_killed_cell_ends_as_if_nothing_had_happened(tmp_path):
    [cell] = planned(
        tmp_path,
        "prior=decoupled",
        "training.iterations=600",
        "training.checkpoint_every=50",
        "training.validate_every=200",
    ).cells
    events = []

    def kill_once(event):
        events.append(event)
        checkpoint = Path(cell.folder) / "checkpoint.pt"
        lost = any(event.kind == "lost" for event in events)
        if event.kind == "training" and checkpoint.is_file() and not lost:
            [worker] = multiprocessing.active_children()
            worker.kill()

    task = partial(run_cell, options=Options())
    [outcome] = LocalExecutor(["cpu"]).run([cell], task, kill_once)
    assert outcome.end == "done"
    assert [event.kind for event in events].count("lost") == 1
    again = [event for event in events if event.kind == "started"][-1]
    assert again.text.startswith("from iteration ")
    train(recipe_of(cell), tmp_path / "whole")
    assert_same_run(tmp_path / "whole", Path(cell.folder))


def test_slots_on_a_cpu(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cpu"])
    monkeypatch.setattr("dpvae_cli.studies.executors.slots.cores", lambda: 16)
    assert slots(device="auto", jobs=None, gpu_share=1.0, cells=50) == ["cpu"] * 8
    assert slots(device="cpu", jobs=12, gpu_share=1.0, cells=50) == ["cpu"] * 12
    assert slots(device="cpu", jobs=None, gpu_share=1.0, cells=3) == ["cpu"] * 3
    assert slots(device="cpu", jobs=None, gpu_share=1.0, cells=0) == ["cpu"]


def test_slots_on_gpus(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cpu", "cuda:0", "cuda:1"])
    both = ["cuda:0", "cuda:1"]
    assert slots(device="auto", jobs=None, gpu_share=1.0, cells=50) == both
    assert slots(device="auto", jobs=None, gpu_share=0.5, cells=50) == both * 2
    assert slots(device="auto", jobs=3, gpu_share=0.34, cells=50) == [*both, "cuda:0"]
    assert slots(device="auto", jobs=None, gpu_share=0.1, cells=5) == [*both, *both, "cuda:0"]
    with pytest.raises(UsageError, match="room for 2") as caught:
        slots(device="auto", jobs=4, gpu_share=1.0, cells=50)
    assert "--gpu-share 0.5" in caught.value.hint
    with pytest.raises(UsageError, match="at most 1"):
        slots(device="auto", jobs=None, gpu_share=1.5, cells=50)
