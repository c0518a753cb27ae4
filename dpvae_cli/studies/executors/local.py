"""Cells on this machine: worker processes that stay warm from cell to cell."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from typing import Any, final

from dpvae_cli.studies.cells import Cell, Outcome, Tell
from dpvae_cli.studies.executors.base import RETRIES, Executor, Schedule, Task
from dpvae_cli.studies.executors.team import POLL, Team, see_through
from dpvae_cli.studies.executors.worker import serve, signals_held

LONGEST_TEMPORARY = 75
"""Bytes of TMPDIR up to which the sockets in it have names that the system allows (108 bytes)."""


def _start_method() -> str:
    has_room = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TEMPORARY
    return "forkserver" if has_room and "forkserver" in get_all_start_methods() else "spawn"


METHOD: Any = _start_method()
IMPORTED = ["dpvae_cli.studies.cell"]


def prepare() -> None:
    """Start the process that workers are forked from; it imports what they need meanwhile.

    Without it, or where processes cannot be forked, workers import for themselves.
    """
    if METHOD == "forkserver":
        forkserver.set_forkserver_preload(IMPORTED)
        with _threads(1):  # what has no threads can be forked
            forkserver.ensure_running()


@final
class LocalExecutor(Executor):
    """Runs as many cells at once as there are slots.

    Args:
        devices: a slot's device each; several slots may share one.
        threads: threads of each worker.
        fail_fast: stop everything at the first failed cell.
        retries: times that a cell whose worker died is tried again.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        threads: int = 1,
        fail_fast: bool = False,
        retries: int = RETRIES,
    ) -> None:
        self._devices, self._threads = tuple(devices), threads
        self._fail_fast, self._retries = fail_fast, retries

    def run(self, cells: Sequence[Cell], task: Task, on_event: Tell) -> list[Outcome]:
        """Run all cells and return how each ended."""
        schedule = Schedule(cells, on_event, fail_fast=self._fail_fast, retries=self._retries)
        team = _Team(self._devices, self._threads, task)
        with team.dismissed_at_the_end():
            return see_through(team, schedule, on_event, cells=len(cells))


@final
@dataclass
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    cell: Cell | None = None


@final
class _Team(Team):
    """The workers, one a slot, hired when there is something to do."""

    def __init__(self, devices: Sequence[str], threads: int, task: Task) -> None:
        self._devices, self._threads, self._task = devices, threads, task
        self._workers: dict[int, _Worker] = {}

    @property
    def at_work(self) -> list[_Worker]:
        """Return the workers that have a cell."""
        return [worker for worker in self._workers.values() if worker.cell is not None]

    def hand_out(self, schedule: Schedule) -> None:
        """Give a cell to every slot that has none."""
        for slot in range(len(self._devices)):
            worker = self._workers.get(slot)
            if worker is not None and worker.cell is not None:
                continue
            cell = schedule.next()
            if cell is None:
                return
            worker = worker or self._hire(slot)
            worker.cell = cell
            with suppress(OSError):  # it has died; the pipe's end tells
                worker.pipe.send(cell)

    def listen(self, schedule: Schedule, on_event: Tell) -> None:
        """Hear what workers say, for a moment."""
        pipes = [worker.pipe for worker in self.at_work]
        if not pipes:
            time.sleep(POLL)
            return
        ready = connection.wait(pipes, timeout=POLL)
        for slot, worker in list(self._workers.items()):
            if worker.pipe in ready:
                self._hear(slot, worker, schedule, on_event)

    def _hear(self, slot: int, worker: _Worker, schedule: Schedule, on_event: Tell) -> None:
        assert worker.cell is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            cell = worker.cell
            schedule.lost(cell, f"its worker died ({self._dismiss(slot)})")
            return
        if not isinstance(message, Outcome):
            on_event(message)
            return
        cell, worker.cell = worker.cell, None
        if message.end == "interrupted":  # then the worker ends too
            self._dismiss(slot)
        schedule.ended(cell, message)

    def stop(self, number: int) -> None:
        """Pass the signal on."""
        for worker in self.at_work:
            if worker.process.pid is not None:
                with suppress(OSError):
                    os.kill(worker.process.pid, number)

    def _hire(self, slot: int) -> _Worker:
        context = get_context(METHOD)
        ours, theirs = context.Pipe()
        with _threads(self._threads):
            surroundings = dict(os.environ)
            process = context.Process(
                target=serve,
                args=(theirs, self._task, self._devices[slot], surroundings),
                daemon=True,
            )
            with signals_held():
                process.start()
        theirs.close()
        self._workers[slot] = _Worker(process, ours)
        return self._workers[slot]

    def _dismiss(self, slot: int) -> str:
        """Take a worker off the team and return how it ended."""
        worker = self._workers.pop(slot)
        worker.pipe.close()
        worker.process.join(timeout=5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        return _ending(worker.process.exitcode)

    @contextmanager
    def dismissed_at_the_end(self) -> Iterator[None]:
        """Send everybody home at the end, at once where something is still at work."""
        try:
            yield
        finally:
            for worker in self._workers.values():
                worker.pipe.close()
            for slot, worker in list(self._workers.items()):
                if worker.cell is not None:
                    worker.process.kill()
                self._dismiss(slot)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let processes started inside compute with `threads` threads."""
    key = "OMP_NUM_THREADS"
    before: Any = os.environ.get(key)
    os.environ[key] = str(count)
    try:
        yield
    finally:
        del os.environ[key]
        if before is not None:
            os.environ[key] = before
