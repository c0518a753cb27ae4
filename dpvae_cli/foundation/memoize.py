"""What is made at most once, also where making it fails."""

from collections.abc import Callable
from typing import TypeVar

from dpvae_cli.foundation.errors import DpvaeError

Made = TypeVar("Made")


def memoize(make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that calls `make` the first time and remembers what came of it.

    An error meant for the user is remembered too and raised again, so that what is missing is not
    looked for, or downloaded, a second time.
    """
    made: list[Made] = []
    failed: list[DpvaeError] = []

    def remembered() -> Made:
        if failed:
            raise failed[0]
        if not made:
            try:
                made.append(make())
            except DpvaeError as error:
                failed.append(error)
                raise
        return made[0]

    return remembered
