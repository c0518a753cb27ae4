"""Where the cells of a study run, from the options of `dpvae reproduce`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from dpvae_cli.studies.executors.base import Executor


class ExecutorName(StrEnum):
    """Where cells run."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


@final
@dataclass(frozen=True)
class ExecutorOptions:
    """The options that say where, on what, and how many at once."""

    name: ExecutorName
    device: str
    jobs: int | None
    threads: int | None
    gpu_share: float
    address: str | None
    partition: str | None
    time: str | None
    gpus: int | None

    def executor(self, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        """Return the executor, and the device of each worker as far as it is known.

        Raises:
            UsageError: options that do not fit each other or this machine.
        """
        from dpvae_cli.foundation.errors import UsageError
        from dpvae_cli.studies.executors import slots
        from dpvae_cli.studies.executors.local import LocalExecutor

        for option, owner in {
            "address": "ray", "partition": "slurm", "time": "slurm", "gpus": "slurm"
        }.items():  # fmt: skip
            if getattr(self, option) is not None and self.name != owner:
                raise UsageError(f"--{option} needs --executor {owner}")
        if self.name is ExecutorName.local:
            workers = slots.slots(
                device=self.device,
                jobs=self.jobs,
                gpu_share=self.gpu_share,
                cells=cells,
                threads=self.threads,
            )
            threads = slots.threads(self.threads, otherwise=slots.cores() // len(workers))
            return LocalExecutor(workers, threads=threads, fail_fast=fail_fast), workers
        threads = slots.threads(self.threads, otherwise=1)
        package = "ray" if self.name is ExecutorName.ray else "submitit"
        try:
            if self.name is ExecutorName.slurm:
                return self._slurm(threads, cells, fail_fast=fail_fast)
            return self._ray(threads, cells, fail_fast=fail_fast)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise UsageError(
                f"--executor {self.name}: {package} is not installed",
                hint=f"Install it: pip install {package}.",
            ) from error

    def _slurm(self, threads: int, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        from dpvae_cli.studies.executors.slurm import SlurmExecutor, parse_minutes

        executor = SlurmExecutor(
            partition=self.partition,
            minutes=parse_minutes(self.time or "04:00:00"),
            gpus=self.gpus or 0,
            threads=threads,
            jobs=self.jobs,
            fail_fast=fail_fast,
        )
        return executor, ["cuda" if self.gpus else "cpu"] * max(1, min(self.jobs or cells, cells))

    def _ray(self, threads: int, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        from dpvae_cli.foundation import devices
        from dpvae_cli.studies.executors.ray import RayExecutor
        from dpvae_cli.studies.executors.slots import cores

        executor = RayExecutor(
            self.address,
            device=self.device,
            jobs=self.jobs,
            threads=threads,
            gpu_share=self.gpu_share,
            fail_fast=fail_fast,
        )
        # For an estimate only: a cluster is not asked before the study begins.
        gpus = sum(name.startswith("cuda") for name in devices.available())
        on_gpu = self.device == "cuda" or (self.device == "auto" and gpus > 0)
        here = int(gpus / self.gpu_share + 1e-9) if on_gpu else cores() // threads
        at_once = self.jobs or (1 if self.address else here)
        return executor, ["cuda" if on_gpu else "cpu"] * max(1, min(at_once, cells))
