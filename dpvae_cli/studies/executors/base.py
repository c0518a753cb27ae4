"""What executors share: the order of cells, retries, signals, and progress from the cells' logs."""

import math
import os
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dpvae_cli.foundation.errors import InterruptedRun
from dpvae_cli.studies.cell_log import CellLog
from dpvae_cli.studies.messages import Cell, EventHandler, Outcome
from dpvae_cli.training.events import graceful_shutdown

GRACE = 120.0
"""Seconds that cells have to save when they are asked to stop."""

Task = Callable[..., Outcome]
"""`run_cell` with its options, called with a cell and `device`; it is pickled to reach a worker."""


def run_in_worker(cell: Cell, task: Task, device: str, threads: int) -> Outcome:
    """Run a cell with this many threads; an interrupt that it lets through is an outcome too."""
    try:
        import torch  # noqa: PLC0415 - slow, and the parent needs workers before it needs torch
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        threadpool_limits(threads)
        return task(cell, device=device)
    except KeyboardInterrupt:
        return Outcome(cell.name, "interrupted", "stopped")


@dataclass(kw_only=True)
class Executor(ABC):
    """Runs cells somewhere: on this machine, on a cluster.

    Args:
        threads: threads that each cell computes with.
        fail_fast: stop everything at the first failed cell.
        retries: how often a cell is started again after its worker died.
    """

    threads: int = 1
    fail_fast: bool = False
    retries: int = 2
    interval: ClassVar[float] = 0.1
    """Seconds between two looks at jobs, signals and logs."""
    pause: ClassVar[float] = 1.0
    """Seconds until a cell that another process holds is tried again."""

    @abstractmethod
    def connect(self, cells: Sequence[Cell]) -> AbstractContextManager[int]:
        """Return how many cells may be submitted at once; what still runs at the end is stopped."""

    @abstractmethod
    def submit(self, cells: Sequence[Cell], task: Task) -> Sequence[Any]:
        """Start cells and return the job of each, which can be hashed."""

    @abstractmethod
    def poll(self, job: Any, cell: Cell) -> Outcome | None:
        """Return how a job ended, `lost` where its worker died; None while it runs.

        Raises:
            UsageError: no cell can run any more.
        """

    @abstractmethod
    def interrupt(self, job: Any, number: int) -> None:
        """Pass a signal on to the cell of a job, which saves and stops."""

    def run(self, cells: Sequence[Cell], task: Task, on_event: EventHandler) -> list[Outcome]:
        """Run all cells and return how each ended, in the order in which they ended.

        Lost cells are next in turn, busy ones come again at the end.

        Raises:
            InterruptedRun: a signal asked for a stop; the running cells have saved.
            UsageError: cells cannot run where they should.
        """
        if not cells:
            return []
        waiting = deque(CellLog(cell, on_event) for cell in cells)
        running: dict[Any, CellLog] = {}
        outcomes: list[Outcome] = []
        deadline = math.inf
        with graceful_shutdown() as request, self.connect(cells) as slots:
            while (waiting or running) and (now := time.monotonic()) < deadline:
                ready = [log for log in waiting if log.due <= now][: slots - len(running)]
                for log in ready:
                    waiting.remove(log)
                    log.start()
                if ready:
                    jobs = self.submit([log.cell for log in ready], task)
                    running |= zip(jobs, ready, strict=True)
                time.sleep(self.interval)
                for job, log in list(running.items()):
                    outcome = self.poll(job, log.cell)
                    if outcome is None:
                        log.report()
                        continue
                    del running[job]
                    if deadline == math.inf:
                        outcome = self._retry(log, outcome, waiting)
                    if outcome.status not in ("lost", "busy"):
                        log.report_end(outcome)
                        outcomes.append(outcome)
                has_failed = self.fail_fast and any(o.status == "failed" for o in outcomes)
                if deadline == math.inf and (request.signal_number or has_failed):
                    waiting.clear()
                    for job in running:
                        self.interrupt(job, request.signal_number or signal.SIGTERM)
                    deadline = time.monotonic() + GRACE
        if request.signal_number is not None:
            done = sum(outcome.status == "done" for outcome in outcomes)
            raise InterruptedRun(
                f"stopped: {done} of the {len(cells)} cells are done, the others have saved",
                signal_number=request.signal_number,
                hint="The same command resumes them.",
            )
        return outcomes

    def _retry(self, log: CellLog, outcome: Outcome, waiting: deque[CellLog]) -> Outcome:
        """Let a cell that is lost or busy wait for another attempt; too many losses are a failure.

        An interrupt that did not come from here, from a time limit for instance, does not count.
        """
        if outcome.status == "interrupted":
            outcome = replace(outcome, status="lost", message="its worker was told to stop")
        elif outcome.status == "lost":
            log.losses += 1
            if log.losses > self.retries:
                message = f"{outcome.message}, {log.losses} times"
                hint = "Is there enough memory? Run fewer cells at once: --jobs 1."
                return replace(outcome, status="failed", message=message, hint=hint)
        if outcome.status == "lost":
            log.report_end(replace(outcome, message=f"{outcome.message}; trying again"))
            waiting.appendleft(log)
        elif outcome.status == "busy":
            if not log.due:  # which is said once
                log.report_end(outcome)
            log.due = time.monotonic() + self.pause
            waiting.append(log)
        return outcome
