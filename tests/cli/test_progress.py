"""Progress: bars on a terminal, a line now and then elsewhere, nothing with --quiet."""

import io
import re

import pytest
import typer
from rich.console import Console

from dpvae_cli.cli import console, progress
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.progress import handle_progress, report_progress
from dpvae_cli.training.recorder import describe_step


@pytest.fixture
def screen(monkeypatch):
    """Replace stderr; call it to say whether it is a terminal."""

    def stand(*, is_terminal, width=100):
        text = io.StringIO()
        out = Console(
            file=text, force_terminal=is_terminal, width=width, highlight=False, soft_wrap=True
        )
        monkeypatch.setattr(console, "stderr", lambda **_: out)
        return text

    return stand


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock; add to its one item."""
    time = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: time[0])
    return time


def work(*, quiet=False, end=True):
    for done in range(1, 4 + end):
        report_progress("decoding faces", done, 4)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_a_bar_and_quick_work_elsewhere_prints_nothing(screen, is_terminal):
    text = screen(is_terminal=is_terminal)
    handle_errors(work)()
    assert ("decoding faces" in text.getvalue()) == is_terminal


def test_tasks_inside_and_after_each_other_have_bars(screen):
    text = screen(is_terminal=True)

    def nested():
        report_progress("skl", 1, 2)
        work()
        report_progress("skl", 2, 2)
        report_progress("decoding houses", 1, 2)

    handle_errors(nested)()
    assert all(task in text.getvalue() for task in ("skl", "decoding faces", "decoding houses"))


def test_an_error_takes_the_bar_away(screen):
    text = screen(is_terminal=True)

    def fails():
        work(end=False)
        raise UsageError("no")

    with pytest.raises(typer.Exit):
        handle_errors(fails)()
    assert text.getvalue().count("\x1b[?25l") == text.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_shows_nothing(screen, clock, is_terminal):
    text = screen(is_terminal=is_terminal)
    clock[0] = 10
    handle_errors(work)(quiet=True)
    assert text.getvalue() == ""


def test_elsewhere_a_line_is_printed_now_and_then(screen, clock):
    text = screen(is_terminal=False)
    with progress.ProgressDisplay() as display, handle_progress(display):
        for done, now in enumerate([1.0, 3.0, 3.5, 6.0], 1):
            clock[0] = now
            report_progress("decoding faces", done, 4, "fast" if done == 2 else "")
    assert text.getvalue() == "decoding faces: 2 of 4  fast\ndecoding faces: 4 of 4\n"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_narrow_terminal_keeps_count_and_percentage_and_cuts_the_terms(screen, clock, width):
    text = screen(is_terminal=True, width=width)
    with progress.ProgressDisplay() as display, handle_progress(display):
        terms = dict.fromkeys(("reconstruction", "kl", "total_correlation"), -1.234)
        shown = describe_step({"steps_per_second": 154.2, "loss": 1.0, "terms": terms})
        report_progress("training", 50_000, 100_000, shown)
        clock[0] += 1
        report_progress("training", 50_001, 100_000, shown)
        text.truncate(0)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).strip("\x00\n\r").split("\r")[-1]
    assert " 50001/100000 " in last, last
    assert " 50%" in last
    assert "154 steps/s" in last
    assert len(last) <= width
    assert ("total_correlation -1.234" in last) == (width == 140)
