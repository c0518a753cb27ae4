"""What an executor is, and the order in which it takes cells."""

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.studies.messages import Cell, Event, EventHandler, Outcome

RETRIES = 2
"""Times that a cell whose worker died is tried again."""
PAUSE = 1.0
"""Seconds until a cell that another process has is looked at again."""


@runtime_checkable
class Task(Protocol):
    """What is done to a cell, `run_cell` with its options; it is pickled to reach a worker."""

    def __call__(self, cell: Cell, *, device: str, on_event: EventHandler) -> Outcome:
        """Bring the cell to its end."""


def attempt(task: Task, cell: Cell, *, device: str, on_event: EventHandler) -> Outcome:
    """Do a cell in a worker; an interrupt that the task lets through is an outcome too."""
    try:
        return task(cell, device=device, on_event=on_event)
    except KeyboardInterrupt:
        return Outcome(cell.name, "interrupted", "stopped")


class Executor(ABC):
    """Runs cells somewhere: on this machine, on a cluster."""

    @abstractmethod
    def run(self, cells: Sequence[Cell], task: Task, on_event: EventHandler) -> list[Outcome]:
        """Run all cells and return how each ended, in the order in which they ended.

        A cell whose worker dies is tried again from its checkpoint, a few times; a cell that
        another process holds is looked at again until it is free.

        Args:
            cells: which.
            task: what is done to each.
            on_event: hears what happens.

        Raises:
            InterruptedRun: a signal asked for a stop; the cells at work have saved.
            UsageError: cells cannot run where they should.
        """


@final
class Schedule:
    """Which cell is next: in order, lost ones first, busy ones again after a pause.

    Args:
        cells: which.
        on_event: hears of ends and losses.
        fail_fast: start nothing more after a failure.
        retries: times that a lost cell is tried again.
        pause: seconds until a busy cell is looked at again.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        on_event: EventHandler,
        *,
        fail_fast: bool = False,
        retries: int = RETRIES,
        pause: float = PAUSE,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.refusal: DpvaeError | None = None
        self._waiting = deque(cells)
        self._busy: deque[tuple[float, Cell]] = deque()
        self._told_busy: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._on_event, self._fail_fast = on_event, fail_fast
        self._retries, self._pause = retries, pause
        self._abandoned = False

    def next(self) -> Cell | None:
        """Return the next cell, or None where there is none at the moment."""
        if self._waiting:
            return self._waiting.popleft()
        if self._busy and self._busy[0][0] <= time.monotonic():
            return self._busy.popleft()[1]
        return None

    @property
    def is_empty(self) -> bool:
        """Return whether no cell is left to be started, now or later."""
        return not (self._waiting or self._busy)

    @property
    def startable(self) -> int:
        """Return how many cells could be started now, but for the busy ones."""
        return len(self._waiting)

    @property
    def is_stopped(self) -> bool:
        """Return whether a failure or a refusal ends the study."""
        if self.refusal is not None:
            return True
        return self._fail_fast and any(outcome.status == "failed" for outcome in self.outcomes)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Note how a cell ended; a busy one is looked at again later.

        Only the study's own end interrupts a cell for good; somebody else's signal loses it.
        """
        if outcome.status == "interrupted" and not self._abandoned:
            self.lost(cell, "its worker was told to stop")
            return
        if outcome.status == "busy":
            self._busy.append((time.monotonic() + self._pause, cell))
            if cell.name not in self._told_busy:
                self._told_busy.add(cell.name)
                self._on_event(outcome.event)
            return
        self.outcomes.append(outcome)
        self._on_event(outcome.event)
        if self.is_stopped:
            self.abandon()

    def lost(self, cell: Cell, why: str) -> None:
        """Note that the worker of a cell died; the cell is tried again, or has failed."""
        self._losses[cell.name] += 1
        if self._losses[cell.name] > self._retries:
            times = self._losses[cell.name]
            hint = "Is there enough memory? Fewer workers at once: --jobs 1."
            self.ended(cell, Outcome(cell.name, "failed", f"{why}, {times} times", hint))
            return
        self._on_event(Event(cell.name, "lost", f"{why}; trying again"))
        self._waiting.appendleft(cell)

    def refuse(self, error: DpvaeError) -> None:
        """End the study with an error: no cell can run there."""
        self.refusal = error
        self.abandon()

    def abandon(self) -> None:
        """Start nothing more."""
        self._abandoned = True
        self._waiting.clear()
        self._busy.clear()
