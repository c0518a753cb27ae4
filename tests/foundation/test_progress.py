"""What is told is heard by the innermost listener, and by nobody by default."""

import pytest

from dpvae_cli.foundation.progress import format_duration, handle_progress, report_progress


def test_nobody_listens_by_default(capsys):
    report_progress("work", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_innermost_listener_hears():
    outer, inner = [], []
    with handle_progress(lambda *said: outer.append(said)):
        report_progress("work", 1, 3)
        with handle_progress(lambda *said: inner.append(said)):
            report_progress("work", 2, 3)
        report_progress("work", 3, 3)
    report_progress("work", 4, 3)
    assert outer == [("work", 1, 3), ("work", 3, 3)]
    assert inner == [("work", 2, 3)]


def test_an_error_inside_ends_listening():
    heard = []
    with pytest.raises(ValueError), handle_progress(lambda *said: heard.append(said)):
        raise ValueError
    report_progress("work", 1, 1)
    assert heard == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.1, "about 1 s"), (89.0, "about 89 s"), (600.0, "about 10 min"), (9_000.0, "about 2.5 h")],
)
def test_durations_are_rough(seconds, said):
    assert format_duration(seconds) == said
