"""Cells as tasks on a Ray cluster."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import ray
from ray._private import ray_constants
from ray.exceptions import RayError, RayTaskError

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.studies.executors.base import Executor, Task, run_in_worker
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.version import __version__

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store where we start Ray: nothing but cells passes through it."""
CHECK_EVERY = 5.0
"""Seconds between two looks whether the cluster is still there."""


@final
@dataclass(kw_only=True)
class RayExecutor(Executor):
    """Runs as many cells at once as the cluster has room for.

    Args:
        address: of a cluster; None takes RAY_ADDRESS, else starts one on this machine.
        device: auto (GPUs where the cluster has any), cpu or cuda.
        jobs: cells at once, at most.
        gpu_share: the share of a GPU that a cell asks for.
    """

    address: str | None = field(default=None, kw_only=False)
    device: str = "auto"
    jobs: int | None = None
    gpu_share: float = 1.0

    @contextmanager
    def connect(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Connect to the cluster, or start one here, and make a folder that nodes look for.

        Raises:
            UsageError: there is no cluster, or no node of it has room for a cell.
        """
        folder = cells[0].folder.absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # stdout is for results
            try:
                self._start()
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                sizes = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
                has_gpu = any(gpus for _, gpus in sizes)
                on_gpu = self.device == "cuda" or (self.device == "auto" and has_gpu)
                self._gpus = self.gpu_share if on_gpu else 0.0
                if not any(cpus >= self.threads and gpus >= self._gpus for cpus, gpus in sizes):
                    there = "; ".join(f"{cpus:g} CPUs, {gpus:g} GPUs" for cpus, gpus in sizes)
                    raise UsageError(
                        f"a cell asks for {self.threads} CPUs and {self._gpus:g} GPUs, which no "
                        f"node of the Ray cluster has: {there}",
                        hint="Ask for less: --threads 1, --gpu-share 0.5 or --device cpu.",
                    )
                self._next_check = 0.0
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
                hint="Start one with `ray start --head`; all nodes need the same versions of Ray "
                "and Python, and addresses with ray:// need pip install 'ray[client]'.",
            ) from error
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = network
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, sigterm)  # Ray has replaced the handler

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Submit a Ray task for each cell."""
        work = (task, "cuda" if self._gpus else "cpu", self.threads)
        environment = {key: v for key, v in os.environ.items() if key.startswith("DPVAE_")}
        node = (__version__, str(Path.cwd()), self._probe, environment)
        remote = ray.remote(num_cpus=self.threads, num_gpus=self._gpus, max_retries=0)(run_on_node)
        return [remote.remote(cell, work, *node) for cell in cells]

    def poll(self, job: Any, cell: Cell) -> Outcome | None:
        """Return how a task ended; one that raises has failed, or its node is unfit."""
        if not self._is_done(job):
            return None
        try:
            outcome: Outcome = ray.get(job)
        except RayTaskError as error:
            if isinstance(error.cause, DpvaeError):
                raise error.cause from None
            reason = f"{type(error.cause).__name__}: {_first_line(error.cause)}"
            return Outcome(cell.name, "failed", reason)
        except RayError as error:
            return Outcome(cell.name, "lost", f"its worker died ({_first_line(error)[:120]})")
        return outcome

    def _is_done(self, job: Any) -> bool:
        with suppress(RayError):
            is_done = bool(ray.wait([job], timeout=0)[0])
            if is_done or time.monotonic() < self._next_check:
                return is_done
            self._next_check = time.monotonic() + CHECK_EVERY
            if any(node["Alive"] for node in ray.nodes()):
                return False
        raise UsageError(
            "the Ray cluster does not answer any more",
            hint="Start it again; the same command then resumes from the checkpoints.",
        )

    def interrupt(self, job: Any, number: int) -> None:
        """Interrupt the task: training saves first."""
        with suppress(RayError):
            ray.cancel(job)


def run_on_node(
    cell: Cell,
    work: tuple[Task, str, int],
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
    return run_in_worker(cell, *work)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
