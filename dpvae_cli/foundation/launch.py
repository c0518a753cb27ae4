"""Whether this process is one of several that torchrun, or anything like it, has started."""

import os


def world_size() -> int:
    """Return how many processes were started together; 1 where nothing says so."""
    together = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if together else 1


def launched() -> bool:
    """Tell whether there are others."""
    return world_size() > 1


def is_first() -> bool:
    """Tell whether this is the process that writes files and talks to the user."""
    return not launched() or int(os.environ["RANK"]) == 0


def local_rank() -> int | None:
    """Return this process's number on its machine; None where it was started alone."""
    return int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) if launched() else None
