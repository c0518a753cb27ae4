"""Run time and peak memory of whole processes."""

import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.measure import Absent, Variant

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


def command(*words: str) -> Callable[[], None]:
    """Return work that runs `python WORDS` and discards its output."""

    def run() -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    return run


def peak(work: Callable[..., object], *arguments: object) -> Variant:
    """Return a variant that runs work in its own process and returns its peak memory in MiB."""
    return lambda: _elsewhere(_peak_of, work, *arguments)


def growth(prepare: Callable[..., Callable[[], object]], *arguments: object) -> Variant | Absent:
    """Return a variant that runs the result of `prepare` in its own process.

    Its figure is by how many MiB the peak lies above what is resident when `prepare` is done.
    """
    if not FORGET.exists():
        return Absent("this system has no /proc/self/clear_refs")
    return lambda: _elsewhere(_growth_of, prepare, *arguments)


def _elsewhere(function: Callable[..., float], *arguments: object) -> float:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _peak_of(work: Callable[..., object], *arguments: object) -> float:
    work(*arguments)
    if STATUS.exists():  # getrusage would include the parent's size at the fork
        return _resident("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _growth_of(prepare: Callable[..., Callable[[], object]], *arguments: object) -> float:
    work = prepare(*arguments)
    FORGET.write_text("5")  # reset the peak
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(key: str) -> float:
    """Return this process's VmRSS or VmHWM in MiB."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
