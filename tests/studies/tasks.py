"""Tasks for workers that need no torch, so that a worker starts at once."""

import os
import signal
import time
from pathlib import Path

from dpvae_cli.studies.messages import Cell, Outcome


def fake_cells(folder: Path, count: int) -> list[Cell]:
    """Return cells that only tasks of this module can do."""
    return [Cell(f"cell{index}", folder / f"cell{index}", None) for index in range(count)]


def visits(cell: Cell) -> int:
    """Count, in a file beside the cell, how often it was begun, this time included."""
    path = Path(f"{cell.folder}.visits")
    number = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(number))
    return number


def note_process(cell: Cell, *, device):
    """Say which process, which device and how many threads."""
    threads = os.environ["OMP_NUM_THREADS"]
    return Outcome(cell.name, "done", f"{os.getpid()} {device} {threads}")


def die_at_first(cell: Cell, *, device):
    """Die without a word the first time."""
    if visits(cell) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(cell.name, "done")


def always_die(cell: Cell, *, device):
    """Die every time."""
    visits(cell)
    os._exit(3)


def fail_the_first(cell: Cell, *, device):
    """Fail on cell0, take a while on all others."""
    visits(cell)
    if cell.name == "cell0":
        return Outcome(cell.name, "failed", "no luck")
    time.sleep(0.5)
    return Outcome(cell.name, "done")


def busy_twice(cell: Cell, *, device):
    """Be somebody else's the first two times."""
    return Outcome(cell.name, "busy" if visits(cell) <= 2 else "done")


def never_end(cell: Cell, *, device):
    """Work until a signal comes, which ends in KeyboardInterrupt outside of training."""
    visits(cell)
    time.sleep(600)
    return Outcome(cell.name, "done")


def note_and_wait(cell: Cell, *, device):
    """Write down which process this is, and stay."""
    Path(f"{cell.folder}.pid").write_text(str(os.getpid()))
    time.sleep(600)
    return Outcome(cell.name, "done")


def note_threads(cell: Cell, *, device):
    """Say with how many threads torch and numpy's library compute, and what MARK says."""
    import torch
    from threadpoolctl import threadpool_info

    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    told = {torch.get_num_threads(), *pools}
    return Outcome(cell.name, "done", f"{sorted(told)} {os.environ.get('MARK')}")
