"""Slow preparation shows on a terminal, in plain lines when training elsewhere, else nowhere."""

import io
import re
from pathlib import Path

import pytest
import typer
from rich.console import Console

from dpvae_cli.cli import console, preparation, progress
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.progress import report_progress


@pytest.fixture
def screen(monkeypatch):
    """Stand for stderr; call it to say whether it is a terminal."""

    def stand(*, is_terminal):
        text = io.StringIO()
        out = Console(file=text, force_terminal=is_terminal, width=100, legacy_windows=False)
        monkeypatch.setattr(console, "stderr", lambda **_: out)
        return text

    return stand


def work(total=4, *, end=True):
    for done in range(1, total + end):
        report_progress("decoding faces", done, total)


def test_commands_show_a_bar_on_a_terminal_only(screen):
    text = screen(is_terminal=True)
    console.guarded(work)()
    assert "decoding faces" in text.getvalue()
    text = screen(is_terminal=False)
    console.guarded(work)()
    assert text.getvalue() == ""


def test_the_bar_comes_again_for_the_next_work(screen):
    text = screen(is_terminal=True)

    def twice():
        work()
        report_progress("decoding houses", 1, 2)
        report_progress("decoding houses", 2, 2)

    console.guarded(twice)()
    assert "decoding faces" in text.getvalue()
    assert "decoding houses" in text.getvalue()


def test_an_error_in_the_middle_takes_the_bar_away(screen):
    text = screen(is_terminal=True)

    def fails():
        work(end=False)
        raise UsageError("no")

    with pytest.raises(typer.Exit):
        console.guarded(fails)()
    assert text.getvalue().count("\x1b[?25l") == text.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_training_and_evaluation_say_nothing(screen, is_terminal):
    text = screen(is_terminal=is_terminal)
    with progress.listener(quiet=True):
        work()
    with progress.metric_progress(quiet=True):
        work()
    assert text.getvalue() == ""


def test_training_shows_it_in_its_own_bar(screen):
    text = screen(is_terminal=True)
    with progress.listener(quiet=False):
        work(end=False)
    assert "decoding faces" in text.getvalue()


def test_training_elsewhere_prints_a_line_now_and_then(screen, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 3.5, 6.0])
    monkeypatch.setattr(preparation.time, "perf_counter", lambda: next(clock))
    text = screen(is_terminal=False)
    with progress.listener(quiet=False):
        work()
    assert text.getvalue() == "decoding faces: 2 of 4\ndecoding faces: 4 of 4\n"


def test_evaluation_shows_it_among_its_metrics(screen):
    text = screen(is_terminal=True)
    with progress.metric_progress(quiet=False) as hears:
        work(end=False)
        hears("nll", 1, 2)
    assert "decoding faces" in text.getvalue()
    assert "nll" in text.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_nll_is_told_of_once(screen, monkeypatch, is_terminal):
    """By the time of an example that was really estimated, not of those kept from before."""
    text, clock = screen(is_terminal=is_terminal), [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    with progress.metric_progress(quiet=False) as hears:
        hears("skl", 1, 2)
        for done in range(4):
            hears("nll", done, 100)
        assert "nll of" not in text.getvalue()
        for done in range(4, 100):
            clock[0] += 60
            hears("nll", done, 100)
    said = " ".join(text.getvalue().split())
    assert said.count("nll of 100 examples takes about 1.6 h more") == 1
    assert "--limit" in said


def test_a_short_nll_is_not_told_of(screen, monkeypatch):
    text, clock = screen(is_terminal=False), [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    with progress.metric_progress(quiet=False) as hears:
        for done in range(11):
            hears("nll", done, 10)
            clock[0] += 50
    assert "takes" not in text.getvalue()
    assert "nll: 10 of 10" in text.getvalue()


def test_a_narrow_terminal_keeps_count_and_percentage_and_cuts_the_terms(monkeypatch):
    for width in (60, 80, 120):
        text = io.StringIO()
        out = Console(file=text, force_terminal=True, width=width, color_system=None)
        with progress.bar(out) as shown:
            bar = progress.Bar(shown)
            bar.started(Path("runs/x"), iteration=0, iterations=100_000)
            terms = dict.fromkeys(("reconstruction", "kl", "total_correlation"), -1.234)
            record = {"kind": "train", "iteration": 50_000, "steps_per_second": 154.2}
            bar.logged({**record, "terms": terms})
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).rstrip("\n").split("\r")[-1]
        assert " 50000/100000 " in last, last
        assert " 50%" in last
        assert "154 steps/s" in last
        assert len(last) <= width
        assert ("total_correlation -1.234" in last) == (width == 120)
