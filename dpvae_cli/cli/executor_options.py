"""Where the cells of a study run, from the options of `dpvae reproduce`."""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from dpvae_cli.foundation.errors import UsageError

if TYPE_CHECKING:
    from dpvae_cli.studies.executors.base import Executor

MAX_WORKERS = 8
"""Workers on a CPU unless more are requested: each has its own torch and its own data in memory."""


ExecutorName = Literal["local", "ray", "slurm"]


@final
@dataclass(frozen=True)
class ExecutorOptions:
    """The options that say where, on what, and how many at once."""

    name: ExecutorName
    device: str = "auto"
    jobs: int | None = None
    threads: int | None = None
    gpu_share: float = 1.0
    address: str | None = None
    partition: str | None = None
    time: str | None = None
    gpus: int | None = None

    def executor(self, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        """Return the executor, and the device of each worker as far as it is known.

        Raises:
            UsageError: options that do not fit each other or this machine.
        """
        for option, owner in {
            "address": "ray", "partition": "slurm", "time": "slurm", "gpus": "slurm"
        }.items():  # fmt: skip
            if getattr(self, option) is not None and self.name != owner:
                raise UsageError(f"--{option} needs --executor {owner}")
        package = {"ray": "ray", "slurm": "submitit"}.get(self.name, "")
        try:
            executor, workers = getattr(self, f"_{self.name}")(cells)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise UsageError(
                f"--executor {self.name}: {package} is not installed",
                hint=f"Install it: pip install {package}.",
            ) from error
        limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
        share = cores() // len(workers) if self.name == "local" else 1
        executor.threads = self.threads or (int(limit) if limit.isdecimal() else 0) or max(1, share)
        executor.fail_fast = fail_fast
        return executor, workers

    def _local(self, cells: int) -> "tuple[Executor, list[str]]":
        from dpvae_cli.studies.executors.local import LocalExecutor

        workers = self.local_devices(cells)
        return LocalExecutor(workers), workers

    def _slurm(self, cells: int) -> "tuple[Executor, list[str]]":
        from dpvae_cli.studies.executors.slurm import SlurmExecutor

        minutes = parse_minutes(self.time or "04:00:00")
        executor = SlurmExecutor(
            partition=self.partition, minutes=minutes, gpus=self.gpus or 0, jobs=self.jobs
        )
        return executor, ["cuda" if self.gpus else "cpu"] * max(1, min(self.jobs or cells, cells))

    def _ray(self, cells: int) -> "tuple[Executor, list[str]]":
        from dpvae_cli.foundation import devices
        from dpvae_cli.studies.executors.ray import RayExecutor

        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"--device {self.device} does not go with --executor ray, which assigns the GPUs",
                hint="Use auto, cpu or cuda.",
            )
        executor = RayExecutor(
            self.address, device=self.device, jobs=self.jobs, gpu_share=self.gpu_share
        )
        # For an estimate only: a cluster is not asked before the study begins.
        gpus = sum(name.startswith("cuda") for name in devices.available())
        on_gpu = self.device == "cuda" or (self.device == "auto" and gpus > 0)
        here = int(gpus / self.gpu_share + 1e-9) if on_gpu else cores() // (self.threads or 1)
        at_once = self.jobs or (1 if self.address else here)
        return executor, ["cuda" if on_gpu else "cpu"] * max(1, min(at_once, cells))

    def local_devices(self, cells: int) -> list[str]:
        """Return the device of each worker on this machine, at most as many as there are cells.

        Raises:
            UsageError: the device is not there, or the GPUs cannot hold this number of jobs.
        """
        from dpvae_cli.foundation import devices

        gpus: list[str] = []
        if self.device == "auto":
            there = devices.available()
            gpus = [name for name in there if name.startswith("cuda")]
            gpus = gpus or [name for name in there if name == "mps"]
        elif devices.resolve(self.device).type != "cpu":
            gpus = [self.device]
        if not gpus:
            fitting = min(max(1, cores() // (self.threads or 1)), MAX_WORKERS)
            return ["cpu"] * max(1, min(self.jobs or fitting, cells))
        room = gpus * int(1 / self.gpu_share + 1e-9)
        if self.jobs is not None and self.jobs > len(room):
            raise UsageError(
                f"--jobs {self.jobs}: {len(gpus)} GPU(s) have room for {len(room)} at "
                f"--gpu-share {self.gpu_share:g}",
                hint=f"Let cells share: --gpu-share {len(gpus) / self.jobs:.2g}",
            )
        return room[: max(1, min(self.jobs or len(room), cells))]


def parse_minutes(limit: str) -> int:
    """Return a Slurm time limit, `[D-]HH:MM:SS` or minutes, in minutes.

    Raises:
        UsageError: it is neither.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)", limit)
    if found is None:
        raise UsageError(f"--time {limit}: write [D-]HH:MM:SS, or minutes")
    days, hours, minutes, seconds, plain = (int(part or 0) for part in found.groups())
    return max(1, plain + (24 * days + hours) * 60 + minutes + (seconds > 0))


def cores() -> int:
    """Return the CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
