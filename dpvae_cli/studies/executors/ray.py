"""Cells on a Ray cluster: tasks, which Ray retries where a worker or a node dies."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import ray
from ray._private import ray_constants
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.studies.executors.base import Executor, Task, WorkerLost, run_guarded
from dpvae_cli.studies.executors.local import configure_worker
from dpvae_cli.studies.executors.slots import check_share, cores
from dpvae_cli.studies.messages import Cell, Outcome
from dpvae_cli.version import __version__

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store where we start Ray: nothing but cells passes through it."""
CHECK_EVERY = 5.0
"""Seconds between two looks whether the cluster is still there."""
PROBE = ".probe"
"""A file beside the cells that all nodes must see."""


@final
@dataclass
class RayExecutor(Executor):
    """Runs as many cells at once as the cluster has room for; Ray itself starts lost ones again.

    Args:
        address: of a cluster; None takes RAY_ADDRESS, else starts one on this machine.
        device: auto (GPUs where the cluster has any), cpu or cuda.
        jobs: cells at once, at most.
        threads: CPUs that a cell asks for, and computes with.
        gpu_share: the share of a GPU that a cell asks for.
    """

    address: str | None = None
    device: str = field(default="auto", kw_only=True)
    jobs: int | None = field(default=None, kw_only=True)
    threads: int = field(default=1, kw_only=True)
    gpu_share: float = field(default=1.0, kw_only=True)
    _references: dict[Any, Any] = field(default_factory=dict, init=False)
    _gpus: float = field(default=0.0, init=False)
    _checked: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: a device or share that Ray cannot assign.
        """
        check_share(self.gpu_share)
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"--device {self.device} does not go with --executor ray, which assigns the GPUs",
                hint="Use auto, cpu or cuda.",
            )

    @contextmanager
    def connect(self, cells: Sequence[Cell], task: Task) -> Iterator[int]:
        """Connect to the cluster, and leave a file that nodes look for.

        Raises:
            UsageError: there is no cluster, or no node of it has room for a cell.
        """
        probes = {Path(cell.folder).absolute().with_name(PROBE) for cell in cells}
        with connected(self.address, cpus=max(cores(), (self.jobs or 1) * self.threads)):
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
            try:
                for probe in probes:
                    write_text(probe, __version__)
                yield self.jobs or len(cells)
            finally:
                for probe in probes:
                    probe.unlink(missing_ok=True)

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Submit a Ray task for each cell."""
        device = "cuda" if self._gpus else "cpu"
        environment = {key: v for key, v in os.environ.items() if key.startswith("DPVAE_")}
        arguments = (task, device, str(Path.cwd()), self.threads, environment)
        options = {"num_cpus": self.threads, "num_gpus": self._gpus, "max_retries": self.retries}
        remote = ray.remote(**options)(run_on_node)
        references = [remote.remote(cell, *arguments) for cell in cells]
        jobs = [reference.future() for reference in references]
        self._references.update(zip(jobs, references, strict=True))
        return jobs

    def result(self, job: Any) -> Outcome | WorkerLost | DpvaeError:
        """Return the outcome, or why Ray gave the task up."""
        del self._references[job]
        try:
            result: Outcome | DpvaeError = job.result()
        except TaskCancelledError:
            return WorkerLost("cancelled")
        except RayTaskError as error:
            reason = f"{type(error.cause).__name__}: {_first_line(error.cause)}"
            return WorkerLost(reason, is_final=True)
        except RayError as error:
            reason = f"its worker died ({_first_line(error)[:120]}), {self.retries + 1} times"
            return WorkerLost(reason, is_final=True)
        return result

    def interrupt(self, jobs: Sequence[Any], number: int) -> None:
        """Interrupt the tasks: training saves first."""
        for job in jobs:
            with suppress(RayError):
                ray.cancel(self._references[job])

    def check(self) -> None:
        """Look now and then whether the cluster still has nodes.

        Raises:
            UsageError: it does not.
        """
        if time.monotonic() - self._checked < CHECK_EVERY:
            return
        self._checked = time.monotonic()
        with suppress(RayError):
            if any(node["Alive"] for node in ray.nodes()):
                return
        raise UsageError(
            "the Ray cluster does not answer any more",
            hint="Start it again; the same command then resumes from the checkpoints.",
        )


def run_on_node(
    cell: Cell, task: Task, device: str, directory: str, threads: int, environment: dict[str, str]
) -> Outcome | UsageError:
    """Run a cell on a node of the cluster, or return why no cell can run there."""
    node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    folder = Path(directory)
    try:
        os.chdir(folder)
        folder = Path(cell.folder).absolute().parent
        version = (folder / PROBE).read_text(encoding="utf-8")
        mine = folder / f"{PROBE}-{socket.gethostname()}-{os.getpid()}"
        mine.touch()
        mine.unlink()
    except OSError as error:
        return UsageError(
            f"node {node} does not see {folder} of the study: {error.strerror or error}",
            hint="Start the study in a folder that all nodes see under the same path and may "
            "write to, on a shared file system.",
        )
    if version != __version__:
        return UsageError(
            f"node {node} has dpvae-cli {__version__}, the study was started by {version}",
            hint="Install the same version on all nodes.",
        )
    for key, value in environment.items():
        os.environ.setdefault(key, value)
    configure_worker(threads)
    return run_guarded(task, cell, device)


@contextmanager
def connected(address: str | None, *, cpus: int) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine with this many CPUs.

    Standard output is for results: what Ray prints there goes to standard error.

    Raises:
        UsageError: there is none.
    """
    if ray.is_initialized():  # by the caller, who shuts it down
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["num_cpus"], options["include_dashboard"] = cpus, False
        options["object_store_memory"] = OBJECT_STORE
    network = ray_constants.ENABLE_RAY_CLUSTER
    if address == "local":  # on the loopback interface alone, for which Ray has no option
        ray_constants.ENABLE_RAY_CLUSTER = False
    sigterm = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler
    is_main = threading.current_thread() is threading.main_thread()
    with redirect_stdout(sys.stderr):
        try:
            try:
                ray.init(address, **options)
            except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
                if address == "local":
                    raise
                raise UsageError(
                    f"--address {address}: no Ray cluster that can be used: {_first_line(error)}",
                    hint="Start one with `ray start --head`, and the same versions of Ray and "
                    "Python on all nodes; addresses that begin with ray:// need "
                    "pip install 'ray[client]'.",
                ) from error
            finally:
                ray_constants.ENABLE_RAY_CLUSTER = network
            if is_main:
                signal.signal(signal.SIGTERM, sigterm)
            yield
        finally:
            ray.shutdown()
            if is_main:
                signal.signal(signal.SIGTERM, sigterm)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
