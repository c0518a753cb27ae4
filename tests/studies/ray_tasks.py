"""Tasks for workers on a Ray cluster; those that run a cell import torch in the worker only."""

import os
import signal
import time
from pathlib import Path

from dpvae_cli.studies.messages import Cell, CellOptions, Event, Outcome


def note_gpu(cell: Cell, *, device, on_event):
    """Say which process, which device, which GPU may be seen and how many threads there are."""
    gpu, threads = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"]
    return Outcome(cell.name, "done", f"{os.getpid()} {device} {gpu} {threads}")


def raise_on_the_first(cell: Cell, *, device, on_event):
    """Raise what no task should raise."""
    if cell.name == "cell0":
        raise ValueError("no luck\nat all")
    return Outcome(cell.name, "done")


def run(cell: Cell, *, device, on_event):
    """Run the cell."""
    from dpvae_cli.studies.run_cell import run_cell

    return run_cell(cell, options=CellOptions(), device=device, on_event=on_event)


def hang(cell: Cell, *, device, on_event):
    """Say that the cell has begun, and never end."""
    on_event(Event(cell.name, "started"))
    time.sleep(1_000)


def run_and_die_once(cell: Cell, *, device, on_event):
    """Run the cell; be killed once, when there is something to go on from."""

    def tell_and_die(event):
        on_event(event)
        if _is_time(cell, event):
            os.kill(os.getpid(), signal.SIGKILL)

    return run(cell, device=device, on_event=tell_and_die)


def run_and_hang_once(cell: Cell, *, device, on_event):
    """Run the cell; hang once on the doomed node, when there is something to go on from."""
    import ray

    doomed = Path(cell.folder).with_name("doomed").read_text()
    here = ray.get_runtime_context().get_node_id()

    def tell_and_hang(event):
        on_event(event)
        if here == doomed and _is_time(cell, event):
            on_event(Event(cell.name, "training", "hanging"))
            time.sleep(200)

    return run(cell, device=device, on_event=tell_and_hang)


def _is_time(cell: Cell, event: Event) -> bool:
    """Return whether a checkpoint is there, once for every cell."""
    if event.kind != "training" or not (Path(cell.folder) / "checkpoint.pt").is_file():
        return False
    try:
        Path(f"{cell.folder}.asked").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
