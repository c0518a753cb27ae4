"""The loop that executors share: cells are handed out, workers listened to, signals obeyed."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from dpvae_cli.foundation.errors import InterruptedRun
from dpvae_cli.studies.cells import Outcome, Tell
from dpvae_cli.studies.executors.base import Schedule
from dpvae_cli.training.signals import graceful_shutdown

POLL = 0.2
"""Seconds until the next look for signals and free cells."""
GRACE = 120.0
"""Seconds that cells have to save when they are asked to stop."""


class Team(ABC):
    """Workers, wherever they are."""

    @property
    @abstractmethod
    def at_work(self) -> Sequence[Any]:
        """Return the workers that have a cell."""

    @abstractmethod
    def hand_out(self, schedule: Schedule) -> None:
        """Give cells to workers that have none."""

    @abstractmethod
    def listen(self, schedule: Schedule, on_event: Tell) -> None:
        """Hear what workers say, for `POLL` seconds at most, and note it in the schedule."""

    @abstractmethod
    def stop(self, number: int) -> None:
        """Ask all that are at work to save and stop; the number is the signal's."""


def see_through(team: Team, schedule: Schedule, on_event: Tell, *, cells: int) -> list[Outcome]:
    """Let a team run all cells of a schedule and return how each ended.

    Raises:
        InterruptedRun: a signal asked for a stop; the cells at work have saved.
        DpvaeError: the schedule was refused.
    """
    with graceful_shutdown() as request:
        while team.at_work or not schedule.is_empty:
            team.hand_out(schedule)
            team.listen(schedule, on_event)
            if request.signal_number is not None:
                _wind_up(team, request.signal_number, schedule, on_event)
                raise _interrupted(request.signal_number, schedule, cells)
            if schedule.is_stopped:
                _wind_up(team, signal.SIGTERM, schedule, on_event)
                break
    if schedule.refusal is not None:
        raise schedule.refusal
    return schedule.outcomes


def _wind_up(team: Team, number: int, schedule: Schedule, on_event: Tell) -> None:
    """Let the cells at work save and stop, and wait for them."""
    schedule.abandon()
    team.stop(number)
    until = time.monotonic() + GRACE
    while team.at_work and time.monotonic() < until:
        team.listen(schedule, on_event)
        schedule.abandon()  # what was lost now is for the next time


def _interrupted(number: int, schedule: Schedule, cells: int) -> InterruptedRun:
    done = sum(outcome.end == "done" for outcome in schedule.outcomes)
    return InterruptedRun(
        f"stopped: {done} of the {cells} cells are done, the others keep what they have",
        signal_number=number,
        hint="The same command goes on.",
    )
