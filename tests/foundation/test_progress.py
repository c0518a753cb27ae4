"""What is told is heard by the innermost listener, and by nobody by default."""

import pytest

from dpvae_cli.foundation.progress import heard_by, tell


def test_nobody_listens_by_default(capsys):
    tell("work", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_innermost_listener_hears():
    outer, inner = [], []
    with heard_by(lambda *said: outer.append(said)):
        tell("work", 1, 3)
        with heard_by(lambda *said: inner.append(said)):
            tell("work", 2, 3)
        tell("work", 3, 3)
    tell("work", 4, 3)
    assert outer == [("work", 1, 3), ("work", 3, 3)]
    assert inner == [("work", 2, 3)]


def test_an_error_inside_ends_listening():
    heard = []
    with pytest.raises(ValueError), heard_by(lambda *said: heard.append(said)):
        raise ValueError
    tell("work", 1, 1)
    assert heard == []
