"""How types are checked in tests; pyproject.toml names the packages."""

from beartype import beartype


def check_types(what):
    """Let beartype check a function or a class.

    Functions within functions are left alone: they are defined, and would be decorated for
    milliseconds, at every call of the outer one.
    """
    return what if "<locals>" in what.__qualname__ else beartype(what)
