"""Memoize a function without arguments, errors included."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from dpvae_cli.foundation.errors import DpvaeError

Value = TypeVar("Value")


def memoize(make: Callable[[], Value]) -> Callable[[], Value]:
    """Return a function that calls `make` once and then returns the same value again.

    Errors meant for the user are raised again, too, so that missing data is not looked for, or
    downloaded, a second time.
    """

    @cache
    def outcome() -> Value | DpvaeError:
        try:
            return make()
        except DpvaeError as error:
            return error

    def memoized() -> Value:
        found = outcome()
        if isinstance(found, DpvaeError):
            raise found
        return found

    return memoized
