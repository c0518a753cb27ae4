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


@final
@dataclass(frozen=True)
class ExecutorOptions:
    """The options that say where, on what, and how many at once."""

    name: ExecutorName
    address: str | None
    device: str
    jobs: int | None
    threads: int | None
    gpu_share: float

    def executor(self, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        """Return the executor, and the device of each worker as far as it can be told before.

        Raises:
            UsageError: options that do not fit each other or this machine.
        """
        from dpvae_cli.foundation.errors import UsageError

        if self.name is ExecutorName.ray:
            return self._ray(fail_fast=fail_fast), self._guess(cells)
        if self.address is not None:
            raise UsageError("--address is for --executor ray")
        return self._local(cells, fail_fast=fail_fast)

    def _local(self, cells: int, *, fail_fast: bool) -> "tuple[Executor, list[str]]":
        from dpvae_cli.studies.executors.local import LocalExecutor
        from dpvae_cli.studies.executors.slots import cores, slots, threads

        workers = slots(
            device=self.device,
            jobs=self.jobs,
            gpu_share=self.gpu_share,
            cells=cells,
            threads=self.threads,
        )
        each = threads(self.threads, otherwise=cores() // len(workers))
        return LocalExecutor(workers, threads=each, fail_fast=fail_fast), workers

    def _ray(self, *, fail_fast: bool) -> "Executor":
        from dpvae_cli.foundation.errors import UsageError
        from dpvae_cli.studies.executors.slots import threads

        try:
            from dpvae_cli.studies.executors.ray import RayExecutor
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise UsageError(
                "--executor ray: Ray is not installed",
                hint="Install it: pip install ray.",
            ) from error
        return RayExecutor(
            self.address,
            device=self.device,
            jobs=self.jobs,
            threads=threads(self.threads, otherwise=1),
            gpu_share=self.gpu_share,
            fail_fast=fail_fast,
        )

    def _guess(self, cells: int) -> list[str]:
        """Return devices for an estimate; a cluster is not asked before the study begins."""
        from dpvae_cli.foundation import devices
        from dpvae_cli.studies.executors.slots import cores

        gpus = sum(name.startswith("cuda") for name in devices.available())
        on_gpu = self.device == "cuda" or (self.device == "auto" and gpus > 0)
        here = int(gpus / self.gpu_share + 1e-9) if on_gpu else cores() // (self.threads or 1)
        at_once = self.jobs or (1 if self.address else here)
        return ["cuda" if on_gpu else "cpu"] * max(1, min(at_once, cells))
