"""Jobs of Slurm, as submitit's local executor runs them."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")

from dpvae_cli.cli.executor_options import parse_minutes
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.studies.executors.local import LocalExecutor
from dpvae_cli.studies.executors.slurm import SlurmExecutor
from dpvae_cli.studies.messages import CellOptions, ignore_event
from dpvae_cli.studies.run_cell import run_cell
from tests.studies import tasks
from tests.studies.tasks import fake_cells
from tests.studies.tiny import planned
from tests.training.test_resume import assert_same_run


def executor(**options):
    return SlurmExecutor(cluster="local", **options)


@pytest.mark.slow
def test_cells_are_those_of_the_local_executor(tmp_path):
    task = partial(run_cell, options=CellOptions())
    folders = []
    for made in (executor(), LocalExecutor(["cpu"])):
        (tmp_path / type(made).__name__).mkdir()
        [cell] = planned(tmp_path / type(made).__name__, "prior=decoupled").cells
        [outcome] = made.run([cell], task, ignore_event)
        assert outcome.status == "done", outcome.message
        folders.append(Path(cell.folder))
    assert_same_run(*folders)


def test_a_job_that_dies_is_submitted_again(tmp_path):
    events = []
    outcomes = executor().run(fake_cells(tmp_path, 2), tasks.die_at_first, events.append)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2
    lost = [event.message for event in events if event.status == "lost"]
    assert len(lost) == 2
    assert all(text.startswith("its job ") for text in lost)


def test_a_signal_cancels_the_jobs(tmp_path):
    def stop_when_started():
        while not list(tmp_path.glob("*.visits")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_started, daemon=True).start()
    with pytest.raises(InterruptedRun):
        executor().run(fake_cells(tmp_path, 1), tasks.never_end, ignore_event)
    assert (tmp_path / "cell0.visits").read_text() == "1"


def test_time_limits():
    assert parse_minutes("04:00:00") == 240
    assert parse_minutes("1-00:30:01") == 24 * 60 + 31
    assert parse_minutes("90") == 90
    with pytest.raises(UsageError, match="--time soon"):
        parse_minutes("soon")
