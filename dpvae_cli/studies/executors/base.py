"""What executors share: the queue of cells, retries, signals, and progress from the cells' logs."""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, final

from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun
from dpvae_cli.studies.cell_log import CellLog
from dpvae_cli.studies.messages import Cell, Event, EventHandler, Outcome
from dpvae_cli.training.signals import graceful_shutdown

RETRIES = 2
"""How often a cell is started again after its worker died."""
POLL = 0.2
"""Seconds between two looks at signals, jobs and logs."""
GRACE = 120.0
"""Seconds that cells have to save when they are asked to stop."""


Task = Callable[..., Outcome]
"""`run_cell` with its options, called with a cell and `device`; it is pickled to reach a worker."""


@final
@dataclass(frozen=True)
class WorkerLost:
    """The result of a job whose process died; `is_final` where it was started again already."""

    reason: str
    is_final: bool = False


def run_guarded(task: Task, cell: Cell, device: str) -> Outcome:
    """Run a cell in a worker; an interrupt that the task lets through is an outcome too."""
    try:
        return task(cell, device=device)
    except KeyboardInterrupt:
        return Outcome(cell.name, "interrupted", "stopped")


@dataclass(kw_only=True)
class Executor(ABC):
    """Runs cells somewhere: on this machine, on a cluster.

    A job is what `submit` returns for a cell; it has `done()`, as a future has.

    Args:
        fail_fast: stop everything at the first failed cell.
        retries: how often a cell is started again after its worker died.
    """

    fail_fast: bool = False
    retries: int = RETRIES
    pause: ClassVar[float] = 1.0
    """Seconds until a cell that another process holds is tried again."""
    has_time_limit: ClassVar[bool] = False
    """Whether cells are interrupted as a matter of course, which is then no failed attempt."""

    @abstractmethod
    def connect(self, cells: Sequence[Cell], task: Task) -> AbstractContextManager[int]:
        """Return how many cells may be submitted at once; what still runs at the end is stopped."""

    @abstractmethod
    def submit(self, cells: Sequence[Cell], task: Task) -> Sequence[Any]:
        """Start cells and return the job of each."""

    @abstractmethod
    def result(self, job: Any) -> Outcome | WorkerLost | DpvaeError:
        """Return the result of a finished job; an error means that no cell can run here."""

    @abstractmethod
    def interrupt(self, jobs: Sequence[Any], number: int) -> None:
        """Pass a signal on to the cells of these jobs, which save and stop."""

    def check(self) -> None:  # noqa: B027 - most need no check
        """Raise an error where jobs can no longer end."""

    def run(self, cells: Sequence[Cell], task: Task, on_event: EventHandler) -> list[Outcome]:
        """Run all cells and return how each ended, in the order in which they ended.

        Raises:
            InterruptedRun: a signal asked for a stop; the running cells have saved.
            UsageError: cells cannot run where they should.
        """
        if not cells:
            return []
        queue = JobQueue(cells, on_event, self)
        running: dict[Any, CellLog] = {}
        deadline = math.inf
        with graceful_shutdown() as request, self.connect(cells, task) as slots:
            while (running or not queue.is_empty) and time.monotonic() < deadline:
                if taken := queue.take(slots - len(running)):
                    logs = [CellLog(cell, on_event) for cell in taken]
                    running |= zip(self.submit(taken, task), logs, strict=True)
                futures = [job for job in running if isinstance(job, Future)]
                if futures:
                    wait(futures, POLL, FIRST_COMPLETED)
                else:
                    time.sleep(POLL)
                for job in [job for job in running if job.done()]:
                    log, result = running.pop(job), self.result(job)
                    if not (isinstance(result, Outcome) and result.status == "busy"):
                        log.report_start()
                    queue.finish(log.cell, result)
                for log in running.values():
                    log.report()
                self.check()
                failed = self.fail_fast and any(o.status == "failed" for o in queue.outcomes)
                if math.isinf(deadline) and (request.signal_number or queue.error or failed):
                    queue.cancel()
                    self.interrupt(list(running), request.signal_number or signal.SIGTERM)
                    deadline = time.monotonic() + GRACE
        if queue.error is not None:
            raise queue.error
        if request.signal_number is not None:
            done = sum(outcome.status == "done" for outcome in queue.outcomes)
            raise InterruptedRun(
                f"stopped: {done} of the {len(cells)} cells are done, the others have saved",
                signal_number=request.signal_number,
                hint="The same command resumes them.",
            )
        return queue.outcomes


@final
class JobQueue:
    """Which cell is next: in order, lost ones first, busy ones again after a pause."""

    def __init__(self, cells: Sequence[Cell], on_event: EventHandler, executor: Executor) -> None:
        self.outcomes: list[Outcome] = []
        self.error: DpvaeError | None = None
        self._waiting = deque(cells)
        self._busy: dict[str, tuple[float, Cell]] = {}
        self._reported: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._on_event, self._executor = on_event, executor
        self._is_cancelled = False

    @property
    def is_empty(self) -> bool:
        """Whether no cell is left to be started, now or later."""
        return not (self._waiting or self._busy)

    def take(self, count: int) -> list[Cell]:
        """Remove the next cells from the queue, at most `count`, and return them."""
        now = time.monotonic()
        for name, (due, cell) in list(self._busy.items()):
            if due <= now:
                self._waiting.append(cell)
                del self._busy[name]
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def finish(self, cell: Cell, result: Outcome | WorkerLost | DpvaeError) -> None:
        """Record the result of a job; a busy cell is tried again later, a lost one at once.

        An interrupt that did not come from here, from a time limit for instance, is a loss.
        """
        if isinstance(result, DpvaeError):
            self.error = result
            return
        is_interrupted = isinstance(result, Outcome) and result.status == "interrupted"
        if is_interrupted and not self._is_cancelled:
            self._losses[cell.name] -= self._executor.has_time_limit
            result = WorkerLost("its worker was told to stop")
        if isinstance(result, WorkerLost):
            if self._is_cancelled:
                return
            self._losses[cell.name] += 1
            times = self._losses[cell.name]
            if not result.is_final and times <= self._executor.retries:
                self._on_event(Event(cell.name, "lost", f"{result.reason}; trying again"))
                self._waiting.appendleft(cell)
                return
            problem = result.reason if result.is_final else f"{result.reason}, {times} times"
            hint = "Is there enough memory? Run fewer cells at once: --jobs 1."
            result = Outcome(cell.name, "failed", problem, hint)
        if result.status == "busy":
            if not self._is_cancelled:
                self._busy[cell.name] = time.monotonic() + self._executor.pause, cell
            if cell.name not in self._reported:
                self._reported.add(cell.name)
                self._on_event(result.event)
        else:
            self.outcomes.append(result)
            self._on_event(result.event)

    def cancel(self) -> None:
        """Start no more cells."""
        self._is_cancelled = True
        self._waiting.clear()
        self._busy.clear()
