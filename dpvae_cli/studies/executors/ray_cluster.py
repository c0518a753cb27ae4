"""The Ray cluster itself: getting at it quietly, and what it has room for."""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO, final

import ray
from ray._private import ray_constants
from ray.exceptions import RayError, RayTaskError

from dpvae_cli.foundation.errors import UsageError

MEMORY = 100 * 2**20
"""Bytes of Ray's object store where we start Ray: nothing but cells and news passes through it."""
DETAIL = "Worker exit detail: "
SHOWN = 120


@contextmanager
def connected(address: str | None, *, cpus: int) -> Iterator[None]:
    """Connect to the cluster, or start one with `cpus` CPUs.

    Raises:
        UsageError: there is none.
    """
    if ray.is_initialized():  # by whoever called us, and left to them
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: Any = _WithoutRay(sys.stdout)
    with _sigterm_kept(), redirect_stdout(quiet):
        try:
            _connect(address or os.environ.get("RAY_ADDRESS"), cpus)
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address in (None, "local"):
        with _on_loopback():
            ray.init(
                "local", num_cpus=cpus, object_store_memory=MEMORY, include_dashboard=False, **quiet
            )
        return
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
        raise UsageError(
            f"--address {address}: no Ray cluster that can be used: {_first_line(error)}",
            hint="Start one with `ray start --head`, and the same versions of Ray and Python on "
            "all nodes; addresses that begin with ray:// need pip install 'ray[client]'.",
        ) from error


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let the Ray that we start listen on the loopback interface alone, as it does on a Mac.

    Ray has no option for it: it replaces a loopback address that it is given by the machine's.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Have SIGTERM's handler again at the end; Ray puts its own in place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@final
class _WithoutRay(io.TextIOBase):
    """Standard output without what Ray's threads print there: it is for results."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Write, unless Ray does."""
        if not threading.current_thread().name.startswith("ray_"):
            self._out.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush."""
        self._out.flush()


@final
@dataclass(frozen=True)
class Needs:
    """What a worker asks the cluster for, and where its cells compute."""

    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """Return the name of the device; Ray shows a worker only the GPU that it may use."""
        return "cuda" if self.gpus else "cpu"


def needs_of(device: str, threads: int, gpu_share: float) -> Needs:
    """Return what a worker asks for.

    Raises:
        UsageError: no node of the cluster has that much, so workers would be waited for forever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    on_gpu = device == "cuda" or (device == "auto" and any(node.get("GPU") for node in nodes))
    needs = Needs(threads, gpu_share if on_gpu else 0.0)
    if not any(_has_room(node, needs) for node in nodes):
        there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise UsageError(
            f"a cell asks for {needs.cpus} CPUs and {needs.gpus:g} GPUs, which no node of the Ray "
            f"cluster has: {there}",
            hint="Ask for less: --threads 1, --gpu-share 0.5 or --device cpu.",
        )
    return needs


def _has_room(node: Mapping[str, float], needs: Needs) -> bool:
    return node.get("CPU", 0) >= needs.cpus and node.get("GPU", 0) >= needs.gpus


def cause(error: RayError) -> str:
    """Return in a few words why a worker died."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {_first_line(error.cause)}"
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return last[0].rpartition(DETAIL)[2].partition(". ")[0].strip()[:SHOWN]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
