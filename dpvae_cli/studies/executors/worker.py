"""A worker process: takes one cell after the other through a pipe, warm in between."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from dpvae_cli.studies.executors.base import Task, attempt
from dpvae_cli.studies.messages import Cell, Event, Outcome
from dpvae_cli.training.signals import stop_signals


def serve(pipe: Connection, task: Task, device: str, environment: dict[str, str]) -> None:
    """Do cells until the pipe closes; a signal lets the cell at work save and ends the worker."""
    for number in stop_signals():
        signal.signal(number, _stop)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C is the parent's, which passes it on once
    try:
        _settle(environment)
        with _signals_held(how=_unblock()):
            _serve(pipe, task, device)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent has gone, or wants no more


def _settle(environment: dict[str, str]) -> None:
    """Take over the parent's environment, and compute with the threads that it says."""
    import torch  # noqa: PLC0415 - slow, and the parent asks for workers before it needs it
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - as above

    os.environ.clear()
    os.environ.update(environment)
    threads = int(environment["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _serve(pipe: Connection, task: Task, device: str) -> None:
    while True:
        cell: Cell = pipe.recv()
        outcome = attempt(task, cell, device=device, on_event=lambda event: _send(pipe, event))
        _send(pipe, outcome)
        if outcome.status == "interrupted":
            return


def _send(pipe: Connection, message: Event | Outcome) -> None:
    """Send; without a parent there is nobody to work for."""
    try:
        pipe.send(message)
    except OSError:
        raise SystemExit(1) from None


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _unblock() -> Any:
    return getattr(signal, "SIG_UNBLOCK", None)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back, from processes started inside too, until they can handle them."""
    with _signals_held(how=getattr(signal, "SIG_BLOCK", None)):
        yield


@contextmanager
def _signals_held(*, how: Any) -> Iterator[None]:
    if how is None:  # no such thing on this platform
        yield
        return
    before = signal.pthread_sigmask(how, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
