"""Whether this process is one of several that torchrun, or anything like it, has started."""

import os

from dpvae_cli.foundation.errors import UsageError


def world_size() -> int:
    """Return how many processes were started together; 1 where nothing says so.

    Raises:
        UsageError: a variable of the launcher is not a number.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 1
    for variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        if not os.environ.get(variable, "0").isdecimal():
            raise UsageError(
                f"the environment variable {variable} is {os.environ[variable]!r}, "
                "a whole number is expected",
                hint="Start processes with torchrun, which sets it, or unset RANK and WORLD_SIZE.",
            )
    return int(os.environ["WORLD_SIZE"])


def launched() -> bool:
    """Tell whether there are others."""
    return world_size() > 1


def is_first() -> bool:
    """Tell whether this is the process that writes files and talks to the user."""
    return not launched() or int(os.environ["RANK"]) == 0


def local_rank() -> int | None:
    """Return this process's number on its machine; None where it was started alone."""
    return int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) if launched() else None
