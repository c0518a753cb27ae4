"""SIGINT and SIGTERM ask for a stop; the loop finishes its step and saves first."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, final

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
@dataclass
class StopRequest:
    """Holds the number of the signal that arrived, if one did."""

    signal_number: int | None = None


@contextmanager
def stop_requests(*, patient: bool = False) -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one acts as usual.

    Signals can be handled in the main thread only; elsewhere the request stays empty.

    Args:
        patient: further signals are noted alike: torchrun hands on what a terminal has sent to
            all processes already, and kills those that do not end in time.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal_number = number
        if not patient:
            _restore(before)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
