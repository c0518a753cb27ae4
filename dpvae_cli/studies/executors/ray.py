"""Cells on a Ray cluster: tasks, which Ray retries where a worker or a node dies."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import ray
from ray._private import ray_constants
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.studies.executors.base import MEMORY_HINT, POLL, Executor, Task, run_in_worker
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.version import __version__

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store where we start Ray: nothing but cells passes through it."""
CHECK_EVERY = 5.0
"""Seconds between two looks whether the cluster is still there."""


@final
@dataclass
class RayExecutor(Executor):
    """Runs as many cells at once as the cluster has room for; Ray itself starts lost ones again.

    Args:
        address: of a cluster; None takes RAY_ADDRESS, else starts one on this machine.
        device: auto (GPUs where the cluster has any), cpu or cuda.
        jobs: cells at once, at most.
        gpu_share: the share of a GPU that a cell asks for.
    """

    address: str | None = None
    device: str = field(default="auto", kw_only=True)
    jobs: int | None = field(default=None, kw_only=True)
    gpu_share: float = field(default=1.0, kw_only=True)
    _gpus: float = field(default=0.0, init=False)
    _probe: str = field(default="", init=False)
    _next_check: float = field(default=0.0, init=False)
    _references: dict[Any, Any] = field(default_factory=dict, init=False)

    @contextmanager
    def connect(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Connect to the cluster, or start one here, and make a folder that nodes look for.

        Standard output is for results: what Ray prints there goes to standard error.

        Raises:
            UsageError: there is no cluster, or no node of it has room for a cell.
        """
        folder = Path(cells[0].folder).absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):
            try:
                self._start()
                self._check_room()
                with TemporaryDirectory(prefix=".probe-", dir=folder) as self._probe:
                    yield self.jobs or len(cells)
            finally:
                ray.shutdown()

    def _start(self) -> None:
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        network, sigterm = ray_constants.ENABLE_RAY_CLUSTER, signal.getsignal(signal.SIGTERM)
        if address == "local":
            cpus = max((self.jobs or 1) * self.threads, os.cpu_count() or 1)
            options |= {"num_cpus": cpus, "object_store_memory": OBJECT_STORE}
            options |= {"include_dashboard": False}
            ray_constants.ENABLE_RAY_CLUSTER = False  # on the loopback interface alone
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address, **options)
        except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
            if address == "local":
                raise
            raise UsageError(
                f"--address {address}: no Ray cluster that can be used: {_first_line(error)}",
                hint="Start one with `ray start --head`, and the same versions of Ray and Python "
                "on all nodes; addresses that begin with ray:// need pip install 'ray[client]'.",
            ) from error
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = network
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, sigterm)  # Ray has replaced the handler

    def _check_room(self) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        sizes = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
        on_gpu = self.device == "cuda" or (self.device == "auto" and any(g for _, g in sizes))
        self._gpus = self.gpu_share if on_gpu else 0.0
        if not any(cpus >= self.threads and gpus >= self._gpus for cpus, gpus in sizes):
            there = "; ".join(f"{cpus:g} CPUs, {gpus:g} GPUs" for cpus, gpus in sizes)
            raise UsageError(
                f"a cell asks for {self.threads} CPUs and {self._gpus:g} GPUs, which no node "
                f"of the Ray cluster has: {there}",
                hint="Ask for less: --threads 1, --gpu-share 0.5 or --device cpu.",
            )

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Submit a Ray task for each cell."""
        device = "cuda" if self._gpus else "cpu"
        work = partial(run_in_worker, task, device=device, threads=self.threads)
        environment = {key: v for key, v in os.environ.items() if key.startswith("DPVAE_")}
        node = (__version__, str(Path.cwd()), self._probe, environment)
        options = {"num_cpus": self.threads, "num_gpus": self._gpus, "max_retries": self.retries}
        remote = ray.remote(**options)(run_on_node)
        references = [remote.remote(work, cell, *node) for cell in cells]
        jobs = [reference.future() for reference in references]
        self._references |= zip(jobs, references, strict=True)
        return jobs

    def collect(self, jobs: Mapping[Any, Cell]) -> dict[Any, Outcome]:
        """Return outcomes; where Ray gave a task up, its cell has failed.

        Raises:
            UsageError: a node is unfit, or the cluster is gone.
        """
        ended, _ = wait(jobs, POLL, FIRST_COMPLETED)
        if not ended and time.monotonic() > self._next_check:
            self._next_check = time.monotonic() + CHECK_EVERY
            with suppress(RayError):
                if any(node["Alive"] for node in ray.nodes()):
                    return {}
            raise UsageError(
                "the Ray cluster does not answer any more",
                hint="Start it again; the same command then resumes from the checkpoints.",
            )
        outcomes: dict[Any, Outcome] = {}
        for job in ended:
            del self._references[job]
            name = jobs[job].name
            try:
                outcomes[job] = job.result()
            except TaskCancelledError:
                outcomes[job] = Outcome(name, "lost", "cancelled")
            except RayTaskError as error:
                if isinstance(error.cause, DpvaeError):
                    raise error.cause from None
                reason = f"{type(error.cause).__name__}: {_first_line(error.cause)}"
                outcomes[job] = Outcome(name, "failed", reason)
            except RayError as error:
                reason = f"its worker died ({_first_line(error)[:120]}), {self.retries + 1} times"
                outcomes[job] = Outcome(name, "failed", reason, MEMORY_HINT)
        return outcomes

    def interrupt(self, job: Any, number: int) -> None:
        """Interrupt the task: training saves first."""
        with suppress(RayError):
            ray.cancel(self._references[job])


def run_on_node(
    work: Callable[[Cell], Outcome],
    cell: Cell,
    version: str,
    directory: str,
    probe: str,
    environment: dict[str, str],
) -> Outcome:
    """Run a cell on a node of the cluster.

    Raises:
        UsageError: no cell can run there.
    """
    host = socket.gethostname()
    node = f"node {host} ({ray.util.get_node_ip_address()})"
    if version != __version__:
        raise UsageError(
            f"{node} has dpvae-cli {__version__}, the study was started by {version}",
            hint="Install the same version on all nodes.",
        )
    try:
        os.chdir(directory)
        Path(probe, f"{host}-{os.getpid()}").touch()
    except OSError as error:
        raise UsageError(
            f"{node} does not see {error.filename}, or may not write to it: {error.strerror}",
            hint="Start the study in a folder that all nodes see under the same path and may "
            "write to, on a shared file system.",
        ) from None
    os.environ |= environment | os.environ
    return work(cell)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
