"""What is told is heard by the innermost listener, and by nobody by default."""

import pytest

from dpvae_cli.foundation.progress import duration, heard_by, tell


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


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.1, "about 1 s"), (89.0, "about 89 s"), (600.0, "about 10 min"), (9_000.0, "about 2.5 h")],
)
def test_durations_are_rough(seconds, said):
    assert duration(seconds) == said
