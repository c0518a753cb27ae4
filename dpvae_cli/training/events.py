"""What happens during training, for whoever shows or records it; and signals that ask for a stop.

The loop finishes its step and saves first. SIGINT is Ctrl-C, SIGTERM comes from job schedulers and
`kill`, SIGHUP from a terminal that closes, and SIGUSR1 from Slurm before the time limit
(`sbatch --signal=USR1@120`).
"""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from dpvae_cli.data import Dataset

URGENT = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the process when they come a second time."""
OTHERS = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Windows has none of them."""


class Callback:
    """Called by `train` in the main process; does nothing. Override what is needed."""

    def on_data_loaded(self, dataset: "Dataset") -> None:
        """Handle that the data is loaded."""

    def on_train_start(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Handle that training starts, or continues, at `iteration` of `iterations`."""

    def on_step(self, iteration: int) -> None:
        """Handle that `iteration` optimizer steps are done."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Handle a record that was written to metrics.jsonl."""

    def on_checkpoint(self, path: Path, *, iteration: int) -> None:
        """Handle that a checkpoint was written."""


@final
@dataclass
class StopRequest:
    """Holds the number of the signal that arrived, if one did."""

    signal_number: int | None = None


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask for a stop, without what the process was started to ignore.

    That is SIGHUP under `nohup`.
    """
    return (*URGENT, *(n for n in OTHERS if signal.getsignal(n) != signal.SIG_IGN))


@contextmanager
def graceful_shutdown(*, repeatable: bool = False) -> Iterator[StopRequest]:
    """Record a signal instead of ending; SIGINT and SIGTERM act as usual the second time.

    A closing terminal may send SIGHUP twice, so it is only recorded, as SIGUSR1 is. Signals can be
    handled in the main thread only; elsewhere the request stays empty.

    Args:
        repeatable: further signals are recorded too: torchrun passes on what a terminal has sent to
            all processes already, and kills those that do not end in time.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in stop_signals()}

    def record(number: int, _frame: FrameType | None) -> None:
        request.signal_number = number
        if number in URGENT and not repeatable:
            for urgent in URGENT:
                signal.signal(urgent, before[urgent])

    for number in before:
        signal.signal(number, record)
    try:
        yield request
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
