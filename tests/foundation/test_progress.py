"""Events go to the innermost handler, and nowhere by default."""

import pytest

from dpvae_cli.foundation.progress import (
    ProgressEvent,
    format_duration,
    handle_progress,
    report_progress,
)


def test_without_a_handler_nothing_is_printed(capsys):
    report_progress("work", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_innermost_handler_gets_the_event():
    outer, inner = [], []
    with handle_progress(outer.append):
        report_progress("work", 1, 3)
        with handle_progress(inner.append):
            report_progress("work", 2, 3, "fast")
        report_progress("work", 3, 3)
    report_progress("work", 4, 3)
    assert outer == [ProgressEvent("work", 1, 3), ProgressEvent("work", 3, 3)]
    assert inner == [ProgressEvent("work", 2, 3, "fast")]
    assert [event.is_finished for event in outer] == [False, True]


def test_an_error_removes_the_handler():
    events = []
    with pytest.raises(ValueError), handle_progress(events.append):
        raise ValueError
    report_progress("work", 1, 1)
    assert events == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "about 1 s"), (89.0, "about 89 s"), (600.0, "about 10 min"), (9_000.0, "about 2.5 h")],
)
def test_durations_are_rough(seconds, text):
    assert format_duration(seconds) == text
