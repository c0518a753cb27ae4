"""Cells on this machine: a pool of one process for each slot, warm from cell to cell."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, forkserver, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from typing import Any, final

from dpvae_cli.studies.executors.base import Executor, Task, WorkerLost, run_guarded
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.training.signals import stop_signals

MAX_TMPDIR = 75
"""Bytes of TMPDIR up to which the sockets in it have names that the system allows (108 bytes)."""
HAS_FORKSERVER = "forkserver" in get_all_start_methods() and (
    len(os.fsencode(tempfile.gettempdir())) <= MAX_TMPDIR
)
METHOD: Any = "forkserver" if HAS_FORKSERVER else "spawn"
PRELOAD = ["dpvae_cli.studies.run_cell"]


def start_forkserver() -> None:
    """Start the process that workers are forked from; it imports what they need meanwhile.

    Without it, or where processes cannot be forked, workers import for themselves.
    """
    if METHOD == "forkserver":
        forkserver.set_forkserver_preload(PRELOAD)
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # what has no threads can be forked
        try:
            forkserver.ensure_running()
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            os.environ |= {} if before is None else {"OMP_NUM_THREADS": before}


def configure_worker(threads: int) -> None:
    """Let this process compute with this many threads."""
    import torch  # noqa: PLC0415 - slow, and the parent needs workers before it needs torch
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _initialize_worker(environment: dict[str, str], threads: int) -> None:
    """Make a process a worker: it ends with its parent, and an interrupt ends its cell only."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C goes to the parent, which passes it on once
    os.environ.clear()
    os.environ.update(environment)
    configure_worker(threads)
    with suppress(AttributeError):  # no signal masks on this platform
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())


@final
@dataclass(eq=False)
class _Worker:
    """One process; a pool of its own, so that its death breaks no other."""

    pool: ProcessPoolExecutor
    process: BaseProcess
    job: "Future[Outcome]"


@final
@dataclass
class LocalExecutor(Executor):
    """Runs as many cells at once as devices are given, each in a process that stays.

    Args:
        devices: the device of each slot; several slots may share one.
        threads: threads of each worker.
    """

    devices: Sequence[str]
    threads: int = field(default=1, kw_only=True)
    _workers: dict[int, _Worker] = field(default_factory=dict, init=False)

    @contextmanager
    def connect(self, cells: Sequence[Cell], task: Task) -> Iterator[int]:
        """Stop the workers at the end, at once where one still has a cell."""
        try:
            yield len(self.devices)
        finally:
            for worker in self._workers.values():
                if not worker.job.done():
                    worker.process.kill()
                worker.pool.shutdown()
            self._workers.clear()

    def submit(self, cells: Sequence[Cell], task: Task) -> "list[Future[Outcome]]":
        """Submit each cell to an idle worker."""
        jobs: list[Future[Outcome]] = []
        for cell in cells:
            busy = {slot for slot, worker in self._workers.items() if not worker.job.done()}
            slot = min(set(range(len(self.devices))) - busy)
            work = partial(run_guarded, task, cell, self.devices[slot])
            if slot in self._workers:
                self._workers[slot].job = self._workers[slot].pool.submit(work)
            else:
                self._workers[slot] = self._start_worker(work)
            jobs.append(self._workers[slot].job)
        return jobs

    def _start_worker(self, work: Callable[[], Outcome]) -> _Worker:
        environment = (dict(os.environ), self.threads)
        pool = ProcessPoolExecutor(1, get_context(METHOD), _initialize_worker, environment)
        before = set(active_children())
        mask: Any = getattr(signal, "pthread_sigmask", lambda *_: set())
        blocked = mask(getattr(signal, "SIG_BLOCK", 0), stop_signals())  # until it handles them
        try:
            job = pool.submit(work)
        finally:
            mask(getattr(signal, "SIG_SETMASK", 0), blocked)
        [process] = set(active_children()) - before
        return _Worker(pool, process, job)

    def result(self, job: "Future[Outcome]") -> Outcome | WorkerLost:
        """Return the outcome, or how the worker ended."""
        try:
            return job.result()
        except BrokenExecutor:
            slot = next(slot for slot, worker in self._workers.items() if worker.job is job)
            worker = self._workers.pop(slot)
            worker.pool.shutdown()
            worker.process.join()
            code = worker.process.exitcode or 0
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return WorkerLost(f"its worker died ({cause})")

    def interrupt(self, jobs: Sequence[Any], number: int) -> None:
        """Send the signal to the workers that have a cell."""
        for worker in self._workers.values():
            if not worker.job.done() and worker.process.pid is not None:
                with suppress(OSError):
                    os.kill(worker.process.pid, number)
