"""Settings of the tests in this folder."""

from tests.blank_pictures import blank_pictures  # noqa: F401
