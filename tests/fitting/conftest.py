"""Settings of the tests in this folder."""

from tests.quick import quick  # noqa: F401
