"""Cells on this machine, each in a process of its own."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.connection import wait
from typing import Any, final

from dpvae_cli.studies.executors.base import POLL, Executor, Task, run_in_worker
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.training.signals import stop_signals

MAX_TMPDIR = 75
"""Bytes of TMPDIR up to which the sockets in it have names that the system allows (108 bytes)."""
HAS_FORKSERVER = "forkserver" in get_all_start_methods() and (
    len(os.fsencode(tempfile.gettempdir())) <= MAX_TMPDIR
)
CONTEXT: Any = get_context("forkserver" if HAS_FORKSERVER else "spawn")


def start_forkserver() -> None:
    """Start the process that workers are forked from; it imports what they need meanwhile.

    Without it, or where processes cannot be forked, workers import for themselves.
    """
    if HAS_FORKSERVER:
        forkserver.set_forkserver_preload(["dpvae_cli.studies.executors.preload"])
        forkserver.ensure_running()


def _run_process(sender: Any, environment: dict[str, str], *work: Any) -> None:
    """Run a cell in this process, which ends with its parent; an interrupt ends the cell only."""
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C goes to the parent, which passes it on once
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    sender.send(run_in_worker(*work))


@final
@dataclass
class LocalExecutor(Executor):
    """Runs as many cells at once as devices are given; a job is the pipe its outcome comes from.

    Args:
        devices: the device of each slot; several slots may share one.
    """

    devices: Sequence[str]
    _free: list[str] = field(default_factory=list, init=False)
    _workers: dict[Any, tuple[Any, str]] = field(default_factory=dict, init=False)

    @contextmanager
    def connect(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Kill what still runs at the end."""
        self._free = list(self.devices)
        try:
            yield len(self.devices)
        finally:
            for process, _ in self._workers.values():
                process.kill()
                process.join()
            self._workers.clear()

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Start a process for each cell on a free device."""
        jobs = []
        for cell in cells:
            receiver, sender = CONTEXT.Pipe(duplex=False)
            device = self._free.pop(0)
            work = (task, cell, device, self.threads)
            process = CONTEXT.Process(target=_run_process, args=(sender, dict(os.environ), *work))
            with sender:
                process.start()
            self._workers[receiver] = process, device
            jobs.append(receiver)
        return jobs

    def collect(self, jobs: Mapping[Any, Cell]) -> dict[Any, Outcome]:
        """Return the outcomes that came, and how a process ended whose end of the pipe is gone."""
        outcomes: dict[Any, Outcome] = {}
        ended: list[Any] = wait(list(jobs), POLL)
        for job in ended:
            process, device = self._workers.pop(job)
            with suppress(EOFError), job:
                outcomes[job] = job.recv()
            process.join()
            if job not in outcomes:
                code = process.exitcode
                cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                outcomes[job] = Outcome(jobs[job].name, "lost", f"its worker died ({cause})")
            self._free.append(device)
        return outcomes

    def interrupt(self, job: Any, number: int) -> None:
        """Send the signal to the process."""
        with suppress(OSError):
            os.kill(self._workers[job][0].pid, number)
