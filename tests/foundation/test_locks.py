"""Locks between processes."""

import pytest
from filelock import Timeout

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import hold_lock


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    path = tmp_path / "new" / "lock"
    with hold_lock(path), pytest.raises(Timeout), hold_lock(path, timeout=0.0):
        pass
    with hold_lock(path, timeout=0.0):
        assert path.parent.is_dir()


def test_a_folder_that_cannot_be_written_to_is_an_error_with_a_hint(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match="cannot write to") as caught,
        hold_lock(tmp_path / "file" / "lock", hint="Name another."),
    ):
        pass
    assert caught.value.hint == "Name another."
