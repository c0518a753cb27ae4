"""Processes that share one run: one a device, on one machine or many.

Each holds a copy of the model and a share of every batch. The global loss is the mean of the
processes' losses, and gradients are averaged, so that the numbers are those of one process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from dpvae_cli.foundation.errors import UsageError


@final
@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them sees them; alone, every method is the identity.

    `rank` is this process's number, from 0; `size` is how many there are (the world size).
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes files and talks to the user."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return which of `count` rows are this process's; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, value: Tensor) -> Tensor:
        """Return the rows of all processes, in order of rank; every one has as many.

        Differentiable: the gradient of a row is the sum of what all processes ask of it.
        """
        if self.size == 1:
            return value
        gathered: Tensor = _Gather.apply(value, self)
        return gathered

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of the processes' values, differentiable."""
        return value if self.size == 1 else self.gather(value.unsqueeze(0)).mean(dim=0)

    def spread(self, compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return `compute(rows)`, row by row; each process computes its share of the rows."""
        if len(rows) < self.size or self.size == 1:
            return compute(rows)
        shares = [ProcessGroup(rank, self.size).rows(len(rows)) for rank in range(self.size)]
        lengths = [share.stop - share.start for share in shares]
        found = compute(rows[shares[self.rank]])
        padding = found.new_zeros((max(lengths) - len(found), *found.shape[1:]))
        gathered = self.gather(torch.cat([found, padding])).split(max(lengths))
        return torch.cat([part[:n] for part, n in zip(gathered, lengths, strict=True)])

    def told(self, words: str) -> list[str]:
        """Return what every process says, in order of rank."""
        if self.size == 1:
            return [words]
        said = torch.tensor(list(words.encode()), dtype=torch.uint8)
        lengths = self.gather(torch.tensor([len(said)])).tolist()
        padded = functional.pad(said, (0, max(lengths) - len(said)))
        heard = self.gather(padded.unsqueeze(0))
        return [bytes(h[:n].tolist()).decode() for h, n in zip(heard, lengths, strict=True)]

    def agree(self, holds: bool) -> bool:
        """Tell whether something holds for every process."""
        return set(self.told(str(holds))) == {"True"}

    def wait(self) -> None:
        """Return when every process has come here."""
        self.told(".")

    def refuse_uneven(self, batch_size: int) -> None:
        """Refuse a global batch that cannot be shared equally.

        Raises:
            UsageError: names the key and what would do.
        """
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            options = [str(n) for n in (below, below + self.size) if n]
            raise UsageError(
                f"training.batch_size {batch_size} cannot be shared by {self.size} processes: it "
                "is the batch of all of them together",
                hint=f"Add training.batch_size={' or '.join(options)}, or start as many processes "
                "as divide it.",
            )


ALONE = ProcessGroup()


@final
class Agreement:
    """A number that all processes come to know, the largest that any tells, one step late.

    What is told in one step is sent while the next one is computed, so that nobody waits.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self._channel: Any = dist.new_group(backend="gloo") if group.size > 1 else None
        self._told = torch.zeros(1, dtype=torch.long)
        self._sending: Any = None

    def ask(self, number: int) -> int:
        """Tell a number, at every step; return the largest told the step before."""
        if self._group.size == 1:
            return number
        agreed = self.heard()
        self._told = torch.tensor([number])
        self._sending = dist.all_reduce(
            self._told, dist.ReduceOp.MAX, group=self._channel, async_op=True
        )
        return agreed

    def heard(self) -> int:
        """Return the largest number told last; needed at the end, for nothing may be under way."""
        if self._sending is not None:
            self._sending.wait()
            self._sending = None
        return int(self._told)


class _Gather(torch.autograd.Function):
    """The rows of all processes; backwards, the sum over them of what each asks of the own rows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: ProcessGroup) -> Tensor:
        """Concatenate in order of rank."""
        ctx.own = slice(group.rank * len(value), (group.rank + 1) * len(value))
        own = value.contiguous()
        found = [torch.empty_like(own) for _ in range(group.size)]
        dist.all_gather(found, own)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum over processes, and keep the own rows."""
        asked = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(asked)
        return asked[ctx.own], None
