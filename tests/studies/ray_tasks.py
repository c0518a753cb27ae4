"""Tasks for workers on a Ray cluster; those that run a cell import torch in the worker only."""

import os
import signal
import threading
import time
from pathlib import Path

from dpvae_cli.studies.messages import Cell, CellOptions, Outcome


def note_gpu(cell: Cell, *, device):
    """Say which process, which device, which GPU may be seen and how many threads there are."""
    gpu, threads = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"]
    return Outcome(cell.name, "done", f"{os.getpid()} {device} {gpu} {threads}")


def raise_on_the_first(cell: Cell, *, device):
    """Raise what no task should raise."""
    if cell.name == "cell0":
        raise ValueError("no luck\nat all")
    return Outcome(cell.name, "done")


def run(cell: Cell, *, device):
    """Run the cell."""
    from dpvae_cli.studies.run_cell import run_cell

    return run_cell(cell, options=CellOptions(), device=device)


def hang(cell: Cell, *, device):
    """Show that the cell has started, and never end."""
    Path(cell.folder).mkdir(parents=True)
    (Path(cell.folder) / "recipe.yaml").touch()
    time.sleep(1_000)


def run_and_die_once(cell: Cell, *, device):
    """Run the cell; be killed once, when there is something to go on from."""
    at_first_checkpoint(cell, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return run(cell, device=device)


def run_and_hang_once(cell: Cell, *, device):
    """Run the cell; on the doomed node stop for good when there is a checkpoint."""
    import ray

    doomed = Path(cell.folder).with_name("doomed")
    if ray.get_runtime_context().get_node_id() == doomed.read_text():
        at_first_checkpoint(cell, doomed.with_name("hanging").touch)
    return run(cell, device=device)


def at_first_checkpoint(cell: Cell, act):
    """Act from a thread as soon as a checkpoint is there, once for every cell."""
    checkpoint, once = Path(cell.folder) / "checkpoint.pt", Path(f"{cell.folder}.once")

    def watch():
        while not checkpoint.is_file():
            time.sleep(0.01)
        act()

    if not once.exists():
        once.touch()
        threading.Thread(target=watch, daemon=True).start()
