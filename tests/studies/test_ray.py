"""Cells on a real Ray cluster of two nodes: the local executor's numbers, whatever dies."""

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

import ray
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

import dpvae_cli
from dpvae_cli.cli.app import app
from dpvae_cli.cli.executor_options import ExecutorOptions
from dpvae_cli.foundation.errors import InterruptedRun, UsageError
from dpvae_cli.foundation.progress import handle_progress
from dpvae_cli.studies.executors.local import LocalExecutor
from dpvae_cli.studies.executors.ray import RayExecutor, run_on_node
from dpvae_cli.studies.messages import ignore_event
from dpvae_cli.version import __version__
from tests.studies import ray_tasks, tasks
from tests.studies.tasks import fake_cells
from tests.studies.tiny import planned, written
from tests.training.test_resume import assert_same_run

ROOT = str(Path(dpvae_cli.__file__).parents[1])
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
LONG = ("training.iterations=600", "training.checkpoint_every=50", "training.validate_every=200")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of a CPU each; the second one says that it has a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ROOT)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args=NODE)
        made.add_node(**NODE, num_gpus=1)
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def _nobody_stays_connected():
    yield
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The cells, as the local executor runs them."""
    cells = planned(tmp_path_factory.mktemp("local"), *LONG).cells
    outcomes = LocalExecutor(["cpu", "cpu"]).run(cells, ray_tasks.run, ignore_event)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2
    return {cell.name: Path(cell.folder) for cell in cells}


def assert_equal(cells, reference):
    for cell in cells:
        assert_same_run(reference[cell.name], Path(cell.folder))
        assert measured(Path(cell.folder)) == measured(reference[cell.name])


def measured(folder):
    results = json.loads((folder / "metrics.json").read_text())["results"]
    return [(result["metric"], result["value"], result["standard_error"]) for result in results]


def executor(cluster, **options):
    return RayExecutor(cluster.address, **{"device": "cpu", **options})


@pytest.mark.slow
def test_numbers_are_those_of_the_local_executor_though_a_worker_is_killed(
    cluster, tmp_path, reference
):
    cells, events, progress = planned(tmp_path, *LONG).cells, [], []
    with handle_progress(progress.append):
        outcomes = executor(cluster).run(cells, ray_tasks.run_and_die_once, events.append)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2
    assert_equal(cells, reference)
    for cell in cells:
        assert Path(f"{cell.folder}.once").exists()
        words = [event.status for event in events if event.cell == cell.name]
        assert (words[0], words[-1]) == ("started", "done")
        assert cell.name in {event.task for event in progress}


@pytest.mark.slow
def test_a_node_that_goes_takes_no_cell_with_it(cluster, tmp_path, reference):
    cells = planned(tmp_path, *LONG).cells
    extra = cluster.add_node(**NODE)
    (Path(cells[0].folder).parent).mkdir(parents=True)
    (Path(cells[0].folder).parent / "doomed").write_text(extra.node_id)
    three = [*cells, replace(cells[0], name="third", folder=Path(f"{cells[0].folder}-third"))]

    def pull_the_plug(event):
        hanging = Path(cells[0].folder).with_name("hanging")
        if hanging.exists():
            hanging.unlink()
            cluster.remove_node(extra, allow_graceful=False)

    with handle_progress(pull_the_plug):
        outcomes = executor(cluster).run(three, ray_tasks.run_and_hang_once, ignore_event)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert_equal(cells, reference)


def test_workers_stay_warm_and_have_what_they_asked_for(cluster, tmp_path):
    outcomes = executor(cluster, threads=1).run(
        fake_cells(tmp_path, 6), ray_tasks.note_gpu, ignore_event
    )
    assert sorted(outcome.cell for outcome in outcomes) == [f"cell{i}" for i in range(6)]
    told = {tuple(outcome.message.split()) for outcome in outcomes}
    assert len({process for process, *_ in told}) <= 3
    assert {(device, threads) for _, device, _, threads in told} == {("cpu", "1")}
    made = executor(cluster, device="auto", gpu_share=0.5)
    outcomes = made.run(fake_cells(tmp_path, 2), ray_tasks.note_gpu, ignore_event)
    assert {outcome.message.split()[1:3] == ["cuda", "0"] for outcome in outcomes} == {True}
    assert [path.name for path in tmp_path.iterdir()] == []  # no probe is left


def test_failed_cells(cluster, tmp_path):
    cells = fake_cells(tmp_path, 3)
    outcomes = executor(cluster, jobs=1).run(cells, tasks.fail_the_first, ignore_event)
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done"]
    (tmp_path / "fast").mkdir()
    cells = fake_cells(tmp_path / "fast", 3)
    outcomes = executor(cluster, jobs=1, fail_fast=True).run(
        cells, tasks.fail_the_first, ignore_event
    )
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert not (tmp_path / "fast" / "cell1.visits").exists()


def test_retries_are_bounded(cluster, tmp_path):
    made = executor(cluster, retries=1)
    [outcome] = made.run(fake_cells(tmp_path, 1), tasks.always_die, ignore_event)
    assert outcome.status == "failed"
    assert outcome.message.startswith("its worker died (")
    assert outcome.message.endswith("), 2 times")
    assert (tmp_path / "cell0.visits").read_text() == "2"
    events = []
    outcomes = made.run(fake_cells(tmp_path, 2), ray_tasks.raise_on_the_first, events.append)
    ends = {outcome.cell: (outcome.status, outcome.message) for outcome in outcomes}
    assert ends["cell0"] == ("failed", "ValueError: no luck")
    assert ends["cell1"] == ("done", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_cells_save(number, cluster, tmp_path):
    [cell, *_] = planned(tmp_path, "training.iterations=1000000").cells
    before, events, stopped = signal.getsignal(signal.SIGTERM), [], []

    def stop(event):
        if event.done > 1 and not stopped:
            stopped.append(event)
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

    with (
        handle_progress(stop),
        pytest.raises(InterruptedRun, match="0 of the 1 cells are done") as caught,
    ):
        executor(cluster).run([cell], ray_tasks.run, events.append)
    assert caught.value.signal_number == number
    assert events[-1].status == "interrupted"
    assert "stopped" in events[-1].message
    assert (Path(cell.folder) / "checkpoint.pt").is_file()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_a_node_does_not_see_ends_the_study(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(TemporaryDirectory, "__enter__", lambda self: f"{self.name}-elsewhere")
    with pytest.raises(UsageError, match=r"node .+ \(.+\) does not see") as caught:
        executor(cluster).run(fake_cells(tmp_path, 2), tasks.fail_the_first, ignore_event)
    assert str(tmp_path) in str(caught.value)
    assert "shared file system" in caught.value.hint
    assert not list(tmp_path.glob("*.visits"))


def test_a_cell_that_no_node_has_room_for_is_not_waited_for(cluster, tmp_path):
    with pytest.raises(UsageError, match="asks for 9 CPUs and 0 GPUs"):
        executor(cluster, threads=9).run(
            fake_cells(tmp_path, 1), tasks.fail_the_first, ignore_event
        )


def test_the_command_prints_its_result_only(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = written(tmp_path, metrics=["manifold"])
    command = ["reproduce", str(path), "--executor", "ray", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--address", cluster.address, "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "studies/tiny"
    assert all(line.startswith("studies/tiny") for line in done.stdout.splitlines())
    assert done.stderr.count(": started") == 2
    assert "[2/2] vae_moons-" in done.stderr
    assert len(list(Path("studies/tiny").glob("*/metrics.json"))) == 2


def test_an_address_without_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UsageError, match="--address nowhere: no Ray cluster"):
        RayExecutor("nowhere").run(fake_cells(tmp_path, 1), tasks.fail_the_first, ignore_event)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_ray_hands_out_the_gpus(device):
    with pytest.raises(UsageError, match=f"--device {device}"):
        ExecutorOptions("ray", device).executor(1, fail_fast=False)


def test_what_makes_a_node_unfit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [cell] = fake_cells(tmp_path, 1)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "1.2.3.4")
    for version, directory, probe, message in [
        ("0.0", ".", ".", "the study was started by 0.0"),
        (__version__, "/nowhere", ".", "does not see /nowhere, or may not write to it: No such"),
        (__version__, ".", "/nowhere", "does not see /nowhere/"),
    ]:
        with pytest.raises(UsageError, match=message):
            run_on_node(cell, (tasks.always_die, "cpu", 1), version, directory, probe, {})


def listening_addresses():
    """Return the addresses at which Ray's processes and this one listen, as the kernel has them."""
    sockets = {}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = str(descriptor.readlink())
            command = Path("/proc", descriptor.parts[2], "cmdline").read_text()
            if "ray" in command or int(descriptor.parts[2]) == os.getpid():
                sockets[target] = command
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    ours = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {row[1].split(":")[0] for row in ours}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
@pytest.mark.slow
def test_ray_that_we_start_is_reached_from_this_machine_alone(tmp_path):
    before = listening_addresses()
    with RayExecutor(device="cpu").connect(fake_cells(tmp_path, 1)):
        found = listening_addresses() - before
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert found
    assert found <= loopback


@pytest.mark.slow
def test_a_cluster_that_dies_ends_the_study_and_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ROOT)
    killed = []

    def kill_raylet(event):
        if event.status == "started" and not killed:
            children = subprocess.check_output(["pgrep", "-P", str(os.getpid()), "raylet"])
            killed.extend(map(int, children.split()))
            for process in killed:
                os.kill(process, signal.SIGKILL)

    start = time.monotonic()
    with pytest.raises(UsageError, match="does not answer any more"):
        RayExecutor(device="cpu", jobs=1).run(fake_cells(tmp_path, 2), ray_tasks.hang, kill_raylet)
    assert killed
    assert time.monotonic() - start < 90
