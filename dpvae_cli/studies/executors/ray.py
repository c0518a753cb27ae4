"""Cells on a Ray cluster: actors that ask for CPUs and GPUs and stay warm from cell to cell.

A worker that dies is told by Ray; trying again is `Schedule`'s, so that retries are bounded,
whatever was the cause, and told. Ray's own restarts are therefore off.
"""

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.studies.executors.base import RETRIES, Executor, Schedule, Task
from dpvae_cli.studies.executors.ray_cluster import Needs, cause, connected, needs_of
from dpvae_cli.studies.executors.ray_worker import Desk, Experiment, RayWorker
from dpvae_cli.studies.executors.slots import check_share, cores
from dpvae_cli.studies.executors.team import POLL, Team, see_through
from dpvae_cli.studies.messages import Cell, Event, EventHandler, Outcome

PATIENCE = 30.0
"""Seconds without an answer after which a cluster counts as dead; nodes are replaced sooner."""


@final
class RayExecutor(Executor):
    """Runs as many cells at once as the cluster has room for.

    Args:
        address: of a cluster; None takes RAY_ADDRESS, else starts one on this machine.
        device: auto (GPUs where the cluster has any), cpu or cuda.
        jobs: cells at once, at most.
        threads: CPUs that a cell asks for, and computes with.
        gpu_share: the share of a GPU that a cell asks for.
        fail_fast: stop everything at the first failed cell.
        retries: times that a cell whose worker died is tried again.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        device: str = "auto",
        jobs: int | None = None,
        threads: int = 1,
        gpu_share: float = 1.0,
        fail_fast: bool = False,
        retries: int = RETRIES,
    ) -> None:
        check_share(gpu_share)
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"--device {device} is not for --executor ray, which hands out the GPUs itself",
                hint="Use auto, cpu or cuda.",
            )
        self._address, self._device, self._jobs = address, device, jobs
        self._threads, self._gpu_share = threads, gpu_share
        self._fail_fast, self._retries = fail_fast, retries

    def run(self, cells: Sequence[Cell], task: Task, on_event: EventHandler) -> list[Outcome]:
        """Run all cells and return how each ended."""
        if not cells:
            return []
        schedule = Schedule(cells, on_event, fail_fast=self._fail_fast, retries=self._retries)
        cpus = max(cores(), (self._jobs or 1) * self._threads)
        with connected(self._address, cpus=cpus), _setting(cells, self._threads) as experiment:
            needs = needs_of(self._device, self._threads, self._gpu_share)
            team = _Team(experiment, needs, task, most=min(self._jobs or len(cells), len(cells)))
            with team.dismissed_at_the_end():
                return see_through(team, schedule, on_event, cells=len(cells))


@contextmanager
def _setting(cells: Sequence[Cell], threads: int) -> Iterator[Experiment]:
    """Write a probe into every folder that cells are kept in, for workers to find."""
    token = secrets.token_hex(8)
    folders = sorted({Path(cell.folder).absolute().parent for cell in cells})
    probes = [folder / f".probe-{token}" for folder in folders]
    try:
        for probe in probes:
            write_text(probe, token)
        yield Experiment(
            directory=str(Path.cwd()),
            probes=tuple(map(str, probes)),
            token=token,
            threads=threads,
            environment={k: v for k, v in os.environ.items() if k.startswith("DPVAE_")},
        )
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)


@final
@dataclass(eq=False)
class _Worker:
    """An actor, what it has been asked and not answered yet, and its cell."""

    actor: Any
    answer: Any
    cell: Cell | None = None
    is_ready: bool = False


@final
class _Team(Team):
    """Workers, each begun when the cluster has room for it, with cells once it has begun."""

    def __init__(self, experiment: Experiment, needs: Needs, task: Task, *, most: int) -> None:
        self._setting, self._needs, self._task, self._most = experiment, needs, task, most
        self._workers: list[_Worker] = []
        self._stopping, self._stillborn = False, 0
        self._heard = time.monotonic()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        self._desk = ray.remote(**options)(Desk).remote()
        self._hired = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus)(RayWorker)

    @property
    def at_work(self) -> list[_Worker]:
        """Return the workers that have a cell."""
        return [worker for worker in self._workers if worker.cell is not None]

    def hand_out(self, schedule: Schedule) -> None:
        """Give a cell to every worker that has none; ask for more workers, or send some home."""
        for worker in [worker for worker in self._workers if worker.answer is None]:
            cell = schedule.next()
            if cell is None:
                break
            worker.cell = cell
            worker.answer = worker.actor.do.remote(cell, self._task, self._needs.device)
        coming = sum(not worker.is_ready for worker in self._workers)
        for _ in range(min(schedule.startable - coming, self._most - len(self._workers))):
            self._hire()
        if schedule.is_empty:  # others may use what we hold
            for worker in [worker for worker in self._workers if worker.cell is None]:
                self._dismiss(worker)

    def listen(self, schedule: Schedule, on_event: EventHandler) -> None:
        """Hear what workers say, for a moment."""
        asked = {worker.answer: worker for worker in self._workers if worker.answer is not None}
        answered: Sequence[Any] = []
        if asked:
            answered, _ = ray.wait(list(asked), num_returns=1, timeout=POLL)
        else:
            time.sleep(POLL)
        names = {worker.cell.name for worker in self._workers if worker.cell is not None}
        for event in self._news(schedule):
            if event.cell in names:
                on_event(event)
        for answer in answered:
            self._hear(asked[answer], schedule)

    def _news(self, schedule: Schedule) -> list[Event]:
        try:
            news = list(ray.get(self._desk.collect.remote(self._stopping), timeout=PATIENCE / 4))
        except RayError as error:  # the desk's node died, and it begins again elsewhere
            if time.monotonic() - self._heard > PATIENCE:
                schedule.refuse(
                    UsageError(
                        f"the Ray cluster has not answered for {PATIENCE:.0f} s: {cause(error)}",
                        hint="Start it again; the same command then goes on from the checkpoints.",
                    )
                )
            return []
        self._heard = time.monotonic()
        return news

    def _hear(self, worker: _Worker, schedule: Schedule) -> None:
        try:
            said = ray.get(worker.answer)
        except RayError as error:
            self._bury(worker, cause(error), schedule)
            return
        cell, worker.cell, worker.answer = worker.cell, None, None
        if cell is not None:
            if said.status == "interrupted":
                self._dismiss(worker)
            schedule.ended(cell, said)
        elif said is not None:
            schedule.refuse(said)
        else:
            worker.is_ready, self._stillborn = True, 0

    def _bury(self, worker: _Worker, cause: str, schedule: Schedule) -> None:
        """Note that a worker died, at a cell or before its first one."""
        self._dismiss(worker)
        if worker.cell is not None:
            schedule.lost(worker.cell, f"its worker died ({cause})")
            return
        self._stillborn += 1
        if self._stillborn > RETRIES:
            hint = "dpvae-cli, the same version as here, must be installed on all nodes."
            schedule.refuse(UsageError(f"Ray's workers die at once: {cause}", hint=hint))

    def stop(self, number: int) -> None:
        """Let the desk tell everybody who calls."""
        self._stopping = True

    def _hire(self) -> None:
        actor = self._hired.remote(self._setting, self._desk)
        self._workers.append(_Worker(actor, actor.begin.remote()))

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        with suppress(RayError):
            ray.kill(worker.actor)

    @contextmanager
    def dismissed_at_the_end(self) -> Iterator[None]:
        """Send everybody home at the end, at once where something is still at work."""
        try:
            yield
        finally:
            for worker in list(self._workers):
                self._dismiss(worker)
            with suppress(RayError):
                ray.kill(self._desk)
