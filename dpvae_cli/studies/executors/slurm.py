"""Cells as an array of Slurm jobs, through submitit."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, final

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

from dpvae_cli.studies.executors.base import Executor, Task, run_in_worker
from dpvae_cli.studies.messages import Cell, Outcome

SIGNAL_DELAY = 120
"""Seconds before its time limit at which a job is asked to save."""


@final
@dataclass(kw_only=True)
class SlurmExecutor(Executor):
    """Runs each cell as a job; one that ends at its time limit or dies is submitted again.

    Args:
        partition: of the cluster; its default one where None.
        minutes: the time limit of a job.
        gpus: GPUs of a job.
        jobs: jobs that run at once, at most.
        cluster: `local` runs jobs as processes on this machine, to try things out.
    """

    partition: str | None = None
    minutes: int = 240
    gpus: int = 0
    jobs: int | None = None
    cluster: str = "slurm"
    interval: ClassVar[float] = 1.0
    pause: ClassVar[float] = 60.0
    _executor: Any = field(default=None, init=False)

    @contextmanager
    def connect(self, cells: Sequence[Cell]) -> Iterator[int]:
        """Make the folder `.slurm` for scripts, results and logs of jobs, beside the cells."""
        folder = cells[0].folder.absolute().with_name(".slurm")
        self._executor = submitit.AutoExecutor(folder, cluster=self.cluster)
        self._executor.update_parameters(
            name="dpvae",
            timeout_min=self.minutes,
            gpus_per_node=self.gpus,
            cpus_per_task=self.threads,
            slurm_signal_delay_s=SIGNAL_DELAY,
            slurm_array_parallelism=self.jobs or len(cells),
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        yield len(cells)

    def submit(self, cells: Sequence[Cell], task: Task) -> list[Any]:
        """Submit an array of jobs."""
        device = "cuda" if self.gpus else "cpu"
        job = partial(run_in_job, task=task, device=device, threads=self.threads)
        return list(self._executor.map_array(job, cells))

    def poll(self, job: Any, cell: Cell) -> Outcome | None:
        """Return what a job has left, or the state that Slurm gives one that died."""
        try:
            outcome: Outcome | None = job.result() if job.done() else None
        except (UncompletedJobError, FailedJobError):
            return Outcome(cell.name, "lost", f"its job {job.job_id} died ({job.state})")
        return outcome

    def interrupt(self, job: Any, number: int) -> None:
        """Cancel the job; Slurm sends SIGTERM first, and training saves."""
        job.cancel(check=False)


def run_in_job(cell: Cell, **work: Any) -> Outcome:
    """Run a cell in a job; a cancelled job, and one near its time limit, saves and stops."""
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    return run_in_worker(cell, **work)
