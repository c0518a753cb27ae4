"""What runs on a Ray cluster: workers that take cells, and the desk where their news arrive.

Nothing here imports torch or numpy: how many threads they have must be said before.
"""

import _thread
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final

import ray
from ray.exceptions import RayError

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.studies.cells import Cell, Event, Outcome
from dpvae_cli.studies.executors.base import Task, attempt
from dpvae_cli.version import __version__

EVERY = 0.25
"""Seconds between two calls at the desk."""
PATIENCE = 2.0
"""Seconds that a file may take to appear on another node."""


@final
@dataclass(frozen=True)
class Setting:
    """What every worker needs to know.

    Args:
        directory: the working directory; paths of cells and data may be relative to it.
        probes: files that must be there, in the folders that cells are kept in.
        token: what the probes hold.
        threads: of each worker.
        environment: variables for nodes that do not set them otherwise.
        version: of this software where the study was started.
    """

    directory: str
    probes: tuple[str, ...]
    token: str
    threads: int
    environment: Mapping[str, str]
    version: str = __version__


@final
class Desk:
    """An actor: takes news of cells, hands them on, and says whether everybody is to stop."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stopping = False

    def tell(self, events: Sequence[Event]) -> bool:
        """Take a worker's news and return whether it is to stop."""
        self._events += events
        return self._stopping

    def collect(self, stopping: bool) -> list[Event]:
        """Return the news since the last time; note whether workers are to stop."""
        self._stopping = stopping
        events, self._events = self._events, []
        return events


@final
class RayWorker:
    """An actor: does one cell after the other, warm in between, on the device it was given.

    Args:
        setting: what it needs to know.
        desk: where it tells its news.
    """

    def __init__(self, setting: Setting, desk: Any) -> None:
        self._setting, self._desk = setting, desk
        os.environ["OMP_NUM_THREADS"] = str(setting.threads)
        for key, value in setting.environment.items():
            os.environ.setdefault(key, value)

    def begin(self) -> UsageError | None:
        """Return why no cell can run here, or None."""
        return unfit(self._setting, _node())

    def do(self, cell: Cell, task: Task, device: str) -> Outcome:
        """Bring a cell to its end."""
        with _Line(self._desk) as line:
            return attempt(task, cell, device=device, tell=line.tell)


def unfit(setting: Setting, node: str) -> UsageError | None:
    """Return what makes a node unfit for a study, or None; go to the working directory."""
    if setting.version != __version__:
        return UsageError(
            f"node {node} has dpvae-cli {__version__}, the study was started by {setting.version}",
            hint="Install the same version on all nodes.",
        )
    looked_for = setting.directory
    try:
        os.chdir(setting.directory)
        for looked_for in setting.probes:
            _probe(Path(looked_for), setting.token)
    except OSError as error:
        return UsageError(
            f"node {node} does not see {_folder(looked_for, setting)} of the study: "
            f"{error.strerror or error}",
            hint="Start the study in a folder that all nodes see under the same path and may "
            "write to, on a shared file system.",
        )
    return None


def _folder(path: str, setting: Setting) -> str:
    return path if path == setting.directory else str(Path(path).parent)


def _probe(path: Path, token: str) -> None:
    """Read what was written where the study was started, and write beside it.

    Raises:
        OSError: it is not there, or nothing can be written.
    """
    until = time.monotonic() + PATIENCE
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    if path.read_text(encoding="utf-8") != token:
        raise OSError(f"{path} holds something else")
    mine = path.with_name(f"{path.name}-{socket.gethostname()}-{os.getpid()}")
    mine.write_text(token, encoding="utf-8")
    mine.unlink()


def _node() -> str:
    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"


@final
class _Line:
    """Calls at the desk now and then while a cell is done; interrupts the cell when told to."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self._events: deque[Event] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_calling, daemon=True)

    def tell(self, event: Event) -> None:
        """Keep it until the next call."""
        self._events.append(event)

    def __enter__(self) -> "_Line":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._call()  # before the outcome, so that no news are older than it

    def _keep_calling(self) -> None:
        while not self._over.wait(EVERY):
            if self._call():
                _thread.interrupt_main()  # as Ctrl-C does: training saves first
                return

    def _call(self) -> bool:
        events = [self._events.popleft() for _ in range(len(self._events))]
        try:
            return bool(ray.get(self._desk.tell.remote(events), timeout=10))
        except RayError:  # a desk that is gone is not a reason to stop working
            return False
