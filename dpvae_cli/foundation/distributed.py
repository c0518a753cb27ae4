"""The processes that share one run: one per device, on one machine or many.

Each rank holds a copy of the model and a shard of every batch. The global loss is the mean of the
ranks' losses and gradients are averaged, so the numbers are those of one process.

Only the first failing rank reports its error; the others exit quietly within seconds.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from dpvae_cli.foundation.errors import DpvaeError, InterruptedRun, PeerFailedError, UsageError

TIMEOUT = timedelta(hours=1)
"""How long one rank may compute alone, such as rank 0 during validation."""
GRACE_PERIOD = 3.0
"""Seconds in which a failing rank can report its error."""
FIRST_TO_FAIL = "dpvae/first to fail"
CONNECTION_ERRORS = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "Socket",
    "Timed out",
)
"""Parts of messages that only say that another process does not answer any more."""


@final
@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run as seen by one of them; with one process every method is the identity.

    `rank` counts from 0, `world_size` is the number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Tell whether this is rank 0, which writes files and talks to the user."""
        return self.rank == 0

    def local_slice(self, count: int) -> slice:
        """Return this rank's share of `count` rows; shares differ by at most one row."""
        return slice(
            count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size
        )

    def all_gather(self, value: Tensor) -> Tensor:
        """Return the rows of all ranks, in order of rank; all have equally many.

        Differentiable: the gradient of a row is the sum of its gradients on all ranks.
        """
        if self.world_size == 1:
            return value
        gathered: Tensor = _AllGather.apply(value, self)
        return gathered

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Return the mean of the ranks' values, differentiable."""
        return value if self.world_size == 1 else self.all_gather(value.unsqueeze(0)).mean(dim=0)

    def map_sharded(self, compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return `compute(rows)`, a function of single rows; each rank computes its share."""
        if len(rows) < self.world_size or self.world_size == 1:
            return compute(rows)
        shards = [
            ProcessGroup(rank, self.world_size).local_slice(len(rows))
            for rank in range(self.world_size)
        ]
        lengths = [shard.stop - shard.start for shard in shards]
        values = compute(rows[shards[self.rank]])
        padding = values.new_zeros((max(lengths) - len(values), *values.shape[1:]))
        gathered = self.all_gather(torch.cat([values, padding])).split(max(lengths))
        return torch.cat([part[:n] for part, n in zip(gathered, lengths, strict=True)])

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the picklable objects of all ranks, in order of rank."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def all_true(self, condition: bool) -> bool:
        """Tell whether a condition holds on every rank."""
        return all(self.all_gather_object(condition))

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.all_gather_object(None)


SINGLE_PROCESS = ProcessGroup()


@final
class AsyncMax:
    """The maximum over ranks of a number, known one step late.

    The number submitted in one step is sent while the next step is computed, so no rank waits.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self._channel: Any = dist.new_group(backend="gloo") if group.world_size > 1 else None
        self._value = torch.zeros(1, dtype=torch.long)
        self._work: Any = None

    def submit(self, number: int) -> int:
        """Submit a number, in every step; return the maximum of the step before."""
        if self._group.world_size == 1:
            return number
        maximum = self.result()
        self._value = torch.tensor([number])
        self._work = dist.all_reduce(
            self._value, dist.ReduceOp.MAX, group=self._channel, async_op=True
        )
        return maximum

    def result(self) -> int:
        """Wait for the pending operation and return its maximum; call it once at the end."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return int(self._value)


class _AllGather(torch.autograd.Function):
    """Differentiable all-gather: the backward pass all-reduces the gradient and slices it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: ProcessGroup) -> Tensor:
        """Concatenate in order of rank."""
        ctx.local = slice(group.rank * len(value), (group.rank + 1) * len(value))
        local = value.contiguous()
        parts = [torch.empty_like(local) for _ in range(group.world_size)]
        dist.all_gather(parts, local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum over ranks and return the local rows."""
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.local], None


def launched_world_size() -> int:
    """Return how many processes torchrun, or a similar launcher, has started; 1 without one.

    Raises:
        UsageError: a variable of the launcher is not a number.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 1
    for variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        if not os.environ.get(variable, "0").isdecimal():
            raise UsageError(
                f"the environment variable {variable} is {os.environ[variable]!r}, "
                "a whole number is expected",
                hint="Start processes with torchrun, which sets it, or unset RANK and WORLD_SIZE.",
            )
    return int(os.environ["WORLD_SIZE"])


def launched_rank() -> int:
    """Return the rank that the launcher gave this process; 0 without one."""
    return int(os.environ["RANK"]) if launched_world_size() > 1 else 0


def local_rank() -> int | None:
    """Return this process's number on its machine; None without a launcher."""
    if launched_world_size() == 1:
        return None
    return int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))


def current_process_group() -> ProcessGroup:
    """Return the process group that is initialized, otherwise the single process."""
    is_initialized = dist.is_available() and dist.is_initialized()
    if not is_initialized:
        return SINGLE_PROCESS
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Initialize the process group of a launcher; does nothing where there is one or no launcher.

    CPU tensors are sent by gloo, those of NVIDIA GPUs by NCCL.

    Raises:
        PeerFailedError: another rank failed and has reported its error.
        DpvaeError: another rank ended without a report.
    """
    if current_process_group() != SINGLE_PROCESS or launched_world_size() == 1:
        yield current_process_group()
        return
    store, rank, world_size = next(rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore("dpvae", store),
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    group = ProcessGroup(rank, world_size)
    try:
        yield group
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except Exception as error:
        if threading.current_thread() is threading.main_thread():
            # torchrun terminates all ranks when one has failed: report the error first
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _translate_error(error, group, store) from error
    dist.destroy_process_group()


def _translate_error(error: Exception, group: ProcessGroup, store: dist.Store) -> Exception:
    """Return what this rank raises: the error if it failed first, otherwise a silent exit."""
    if isinstance(error, InterruptedRun):  # all ranks stop together
        if group.is_main_process:
            return error
        return PeerFailedError(status=128 + error.signal_number)
    is_connection_error = isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and any(message in str(error) for message in CONNECTION_ERRORS)
    )
    if not is_connection_error:
        return error if _is_first_to_fail(store, group) else PeerFailedError()
    until = time.monotonic() + GRACE_PERIOD
    with suppress(RuntimeError):  # the store is gone with the process that held it
        while time.monotonic() < until:
            if store.check([FIRST_TO_FAIL]):
                return PeerFailedError()
            time.sleep(0.1)
    if not _is_first_to_fail(store, group):
        return PeerFailedError()
    return DpvaeError(
        "another process of this run ended without a report: it was killed (perhaps for memory), "
        "or its machine is gone",
        hint="The last checkpoint is intact; the same command with --resume continues from it.",
    )


def _is_first_to_fail(store: dist.Store, group: ProcessGroup) -> bool:
    rank = str(group.rank)
    try:
        return bool(store.compare_set(FIRST_TO_FAIL, "", rank).decode() == rank)
    except RuntimeError:
        return True
