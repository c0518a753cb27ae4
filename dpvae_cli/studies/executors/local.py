"""Cells on this machine, each in a process of its own."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_all_start_methods, get_context
from typing import Any, final

from dpvae_cli.studies.executors.base import Executor, Task, run_in_worker
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.training.events import stop_signals

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
        # the first optimizer imports torch._dynamo
        forkserver.set_forkserver_preload(["torch._dynamo", "dpvae_cli.studies.run_cell"])
        environment = dict(os.environ)
        os.environ["OMP_NUM_THREADS"] = "1"  # a process of one thread alone can be forked
        forkserver.ensure_running()
        os.environ.clear()
        os.environ.update(environment)


def _run_process(sender: Any, environment: dict[str, str], *work: Any) -> None:
    """Run a cell in this process, which ends with its parent; an interrupt ends the cell only."""
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C goes to the parent, which passes it on once

    def exit_with_parent() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    sender.send(run_in_worker(*work))


@final
@dataclass
class LocalExecutor(Executor):
    """Runs as many cells at once as devices are given; a job is a process.

    Args:
        devices: the device of each slot; several slots may share one.
    """

    devices: Sequence[str]

    @contextmanager
    def connect(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Kill what still runs at the end."""
        self._free, self._workers = list(self.devices), dict[Any, tuple[Any, str]]()
        try:
            yield len(self.devices)
        finally:
            for process in self._workers:
                process.kill()
                process.join()

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Start a process for each cell on a free device."""
        jobs = []
        for cell in cells:
            receiver, sender = CONTEXT.Pipe(duplex=False)
            device = self._free.pop(0)
            work = (sender, dict(os.environ), cell, task, device, self.threads)
            jobs.append(CONTEXT.Process(target=_run_process, args=work))
            with sender:
                jobs[-1].start()
            self._workers[jobs[-1]] = receiver, device
        return jobs

    def poll(self, job: Any, cell: Cell) -> Outcome | None:
        """Return the outcome that the process has sent, or how it died before."""
        receiver, device = self._workers[job]
        if not receiver.poll():
            return None
        del self._workers[job]
        self._free.append(device)
        outcome = None
        with suppress(EOFError), receiver:
            outcome = receiver.recv()
        job.join()
        code = job.exitcode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return outcome or Outcome(cell.name, "lost", f"its worker died ({cause})")

    def interrupt(self, job: Any, number: int) -> None:
        """Send the signal to the process."""
        with suppress(OSError):
            os.kill(job.pid, number)
