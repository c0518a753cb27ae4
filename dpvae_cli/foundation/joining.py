"""How a process joins the others of its run, and how all end when one fails.

Only the process that fails first tells its error; the others fall silent within seconds. One that
is killed cannot tell anything: then one of the others says so.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from dpvae_cli.foundation.errors import DpvaeError, EndedByAnother, InterruptedRun
from dpvae_cli.foundation.launch import launched
from dpvae_cli.foundation.processes import ALONE, ProcessGroup

LONGEST_WAIT = timedelta(hours=1)
"""How long one process may compute alone, such as the first one validating."""
PATIENCE = 3.0
"""Seconds in which a process that ends can say why."""
FIRST_TO_FAIL = "dpvae/first to fail"
NOT_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the processes that were started together; a process alone, or joined already, goes on.

    CPU tensors travel by gloo, those of NVIDIA's GPUs by NCCL.

    Raises:
        EndedByAnother: another process failed, and has told its error.
        DpvaeError: another process ended without a word.
    """
    if current() != ALONE or not launched():
        yield current()
    else:
        group, store = _start()
        try:
            yield group
        except NOT_OURS:
            raise
        except Exception as error:
            _last_words()
            raise _explained(error, group, store) from error
        dist.destroy_process_group()


def current() -> ProcessGroup:
    """Return the processes that this one has joined; alone where it has not."""
    is_joined = dist.is_available() and dist.is_initialized()
    return ProcessGroup(dist.get_rank(), dist.get_world_size()) if is_joined else ALONE


def _start() -> tuple[ProcessGroup, dist.Store]:
    store, rank, size = next(rendezvous("env://", timeout=LONGEST_WAIT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore("dpvae", store),
        rank=rank,
        world_size=size,
        timeout=LONGEST_WAIT,
    )
    return ProcessGroup(rank, size), store


def _last_words() -> None:
    """Do not die before the error is told: torchrun ends all processes when one has failed."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _explained(error: Exception, group: ProcessGroup, store: dist.Store) -> Exception:
    """Return what this process raises: the error if it is the first to fail, else its silence."""
    if isinstance(error, InterruptedRun):  # all stop together
        return error if group.is_first else EndedByAnother(status=128 + error.signal_number)
    if not _is_broken_line(error):
        return error if _is_first_to_fail(store, group) else EndedByAnother()
    if _somebody_failed(store) or not _is_first_to_fail(store, group):
        return EndedByAnother()
    return DpvaeError(
        "another process of this run ended without a word: it was killed (perhaps for memory), or "
        "its machine is gone",
        hint="The last checkpoint is untouched; the same command with --resume goes on from it.",
    )


def _is_broken_line(error: Exception) -> bool:
    """Tell whether an error says no more than that another process no longer answers."""
    words = ("Connection closed by peer", "Connection reset", "Broken pipe", "Socket", "Timed out")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _somebody_failed(store: dist.Store) -> bool:
    until = time.monotonic() + PATIENCE
    with suppress(RuntimeError):  # the store is gone with the process that held it
        while time.monotonic() < until:
            if store.check([FIRST_TO_FAIL]):
                return True
            time.sleep(0.1)
    return False


def _is_first_to_fail(store: dist.Store, group: ProcessGroup) -> bool:
    own = str(group.rank)
    try:
        return bool(store.compare_set(FIRST_TO_FAIL, "", own).decode() == own)
    except RuntimeError:
        return True
