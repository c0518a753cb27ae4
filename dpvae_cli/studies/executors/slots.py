"""How many cells run at once on this machine, and on which device each."""

import os

from dpvae_cli.foundation import devices
from dpvae_cli.foundation.errors import UsageError

MAX_WORKERS = 8
"""Workers on a CPU unless more are requested: each has its own torch and its own data in memory."""
MIN_SHARE = 0.001


def slots(
    *, device: str, jobs: int | None, gpu_share: float, cells: int, threads: int | None = None
) -> list[str]:
    """Return the device of each worker, at most as many as there are cells.

    Args:
        device: auto (every GPU that is there, else the CPU), cpu, cuda, cuda:N or mps.
        jobs: workers; None takes all that the GPUs allow, or the cores.
        gpu_share: the share of a GPU that a cell needs; 0.5 lets two share one.
        cells: how many there are to do.
        threads: of each worker, where they are given: fewer workers then fit on a CPU.

    Raises:
        UsageError: the device is not there, or the GPUs cannot hold this number of jobs.
    """
    check_share(gpu_share)
    gpus: list[str] = []
    if device == "auto":
        there = devices.available()
        gpus = [name for name in there if name.startswith("cuda")]
        gpus = gpus or [name for name in there if name == "mps"]
    elif devices.resolve(device).type != "cpu":
        gpus = [device]
    if not gpus:
        fitting = min(max(1, cores() // (threads or 1)), MAX_WORKERS)
        return ["cpu"] * max(1, min(jobs or fitting, cells))
    room = gpus * int(1 / gpu_share + 1e-9)
    if jobs is not None and jobs > len(room):
        raise UsageError(
            f"--jobs {jobs}: {len(gpus)} GPU(s) have room for {len(room)} at "
            f"--gpu-share {gpu_share:g}",
            hint=f"Let cells share: --gpu-share {len(gpus) / jobs:.2g}",
        )
    return room[: max(1, min(jobs or len(room), cells))]


def check_share(gpu_share: float) -> None:
    """Check a share of a GPU.

    Raises:
        UsageError: it is not between 0.001 and 1.
    """
    if not MIN_SHARE <= gpu_share <= 1:
        raise UsageError(
            f"--gpu-share {gpu_share:g}: a share is at least {MIN_SHARE:g} and at most 1"
        )


def threads(requested: int | None, *, otherwise: int) -> int:
    """Return how many threads each worker computes with: as requested, else OMP_NUM_THREADS."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return requested or (int(limit) if limit.isdecimal() else 0) or max(1, otherwise)


def cores() -> int:
    """Return the CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
