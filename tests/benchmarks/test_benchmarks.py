"""The benchmarks run, keep what they should, and their page follows from it; no time is tested."""

import json
import os
import subprocess
import sys

import pytest
import torch

from benchmarks import page, results
from benchmarks.__main__ import parsed
from benchmarks.growth import slope
from benchmarks.measure import Absent, Options, Ratio, Trial, over, play
from benchmarks.naive import NaiveCoupling
from dpvae_cli.mathematics.coupling import AffineCoupling, halves
from tests.docs.pages import ROOT
from tests.mathematics.random_models import normal, randomised

OVER = Ratio("ours over theirs", over("ours", "theirs"), at_most=0.5)


def run(*arguments):
    """Run `python -m benchmarks` as a process, with one thread."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def counting(*figures):
    """Return a variant that gives one figure after another."""
    left = iter(figures)
    return lambda: next(left)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return what a quick benchmark kept and printed."""
    folder = tmp_path_factory.mktemp("results")
    done = run("coupling", "--quick", "--rounds", "2", "--threads", "1", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("*-cpu-quick.json")
    return json.loads(file.read_text()), done.stdout


def test_every_figure_is_kept_with_what_led_to_it(kept):
    entry = kept[0]["benchmarks"]["coupling"]
    assert (entry["rounds"], entry["threads"], entry["quick"]) == (2, 1, True)
    assert {"cpu", "cores"} <= entry["hardware"].keys()
    assert {"python", "torch"} <= entry["versions"].keys()
    for trial in entry["trials"]:
        assert all(len(values) == 2 for values in trial["contestants"].values())
        assert {"ours", "naive form"} <= trial["contestants"].keys()
        for ratio in trial["ratios"]:
            assert len(ratio["values"]) == 2 or ratio["absent"]


def test_a_line_is_printed_for_every_ratio(kept):
    record, printed = kept
    whats = [
        ratio["what"] for t in record["benchmarks"]["coupling"]["trials"] for ratio in t["ratios"]
    ]
    *lines, last = printed.splitlines()
    assert all(line.startswith(what) for line, what in zip(lines, whats, strict=True))
    assert "too small to mean anything" in last


def test_an_unknown_name_is_refused():
    done = run("trainings")
    assert done.returncode == 2
    assert "training, " in done.stderr


def test_ratios_are_taken_round_by_round_and_the_warm_up_does_not_count():
    variants = {"ours": counting(99, 1, 2, 6), "theirs": counting(99, 2, 10, 10)}
    record = play(Trial("t", variants, "s"), [OVER], rounds=3)
    assert record["contestants"] == {"ours": [1, 2, 6], "theirs": [2, 10, 10]}
    [ratio] = record["ratios"]
    assert ratio["values"] == [0.5, 0.2, 0.6]
    assert (ratio["median"], ratio["met"]) == (0.5, True)


def test_the_order_is_turned_round():
    order = []
    variants = {name: lambda name=name: order.append(name) or 1.0 for name in "abc"}
    play(Trial("t", variants, "s", warm_up=False), [], rounds=2)
    assert "".join(order) == "abccba"


def test_the_best_of_several_counts():
    assert over("a", "b", "c")({"a": 6, "b": 3, "c": 2}) == 3


@pytest.mark.parametrize(
    ("limits", "met"), [({"at_least": 2}, False), ({"at_most": 2}, True), ({}, None)]
)
def test_targets(limits, met):
    assert Ratio("r", over("a", "b"), **limits).met(1.0) is met


def test_a_peer_that_is_not_installed_is_named_and_the_rest_runs():
    variants = {"ours": lambda: 1.0, "theirs": Absent("no module theirs")}
    [ratio] = play(Trial("t", variants, "s"), [OVER], rounds=1)["ratios"]
    assert ratio["median"] is None
    assert "not measured: no module theirs" in results.line(ratio, quick=False)


def test_what_is_measured_again_takes_its_place(tmp_path):
    file = tmp_path / "2026-01-01-cpu.json"
    for name, entry in (("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})):
        results.keep(file, name, entry)
    assert results.newest(tmp_path, "cpu")["benchmarks"] == {"a": {"n": 3}, "b": {"n": 2}}
    assert results.newest(tmp_path, "gpu") is None


def test_quick_results_are_never_taken_for_results(tmp_path):
    given = parsed(["--quick"])
    file = results.file_of_today(tmp_path, torch.device(given.device), quick=given.quick)
    results.keep(file, "a", {})
    assert results.newest(tmp_path, "cpu") is None


def test_exponents():
    assert slope({"10": 5.0, "20": 20.0, "40": 80.0}) == pytest.approx(2)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_naive_form_computes_the_same(direction):
    ours = randomised(AffineCoupling(halves(6, 5)))
    z = normal(7, 5)
    theirs = NaiveCoupling(ours)
    for mine, naive in zip(getattr(ours, direction)(z), getattr(theirs, direction)(z), strict=True):
        torch.testing.assert_close(naive, mine)


def test_the_page_is_current():
    text = page.PAGE.read_text(encoding="utf-8")
    found = {kind: results.newest(results.FOLDER, kind) for kind in page.HEADINGS}
    assert page.update_page(text, found) == text, "refresh it: python -m benchmarks.page"


def test_the_page_shows_medians_and_verdicts(kept):
    text = page.update_page(f"{page.BEGIN}{page.END}", {"cpu": kept[0], "gpu": None})
    ratio = kept[0]["benchmarks"]["coupling"]["trials"][0]["ratios"][0]
    [row] = [line for line in text.splitlines() if line.startswith(f"| {ratio['what']} |")]
    assert results.spread(ratio) in row
    assert row.endswith(f"| {results.VERDICTS[ratio['met']]} |")
    assert "| coupling, gradient | naive form |" in text
    assert page.NOT_YET in text


def test_figures_are_shown_in_readable_units():
    assert page.amount(0.0452, "s a step") == "45.2 ms a step"
    assert page.amount(3e-7, "s") == "0.3 µs"
    assert page.amount(12.0, "MiB") == "12 MiB"


def test_growth_is_drawn(tmp_path):
    variants = {"10": [1.0, 2.0], "20": [2.0, 4.0]}
    trial = {"name": "cost with N", "contestants": variants}
    page.draw({"trials": [trial]}, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1_000


def test_sizes_for_a_look_are_not_those_that_are_measured_with():
    options = Options(rounds=1, threads=1, device=torch.device("cpu"), quick=True)
    assert options.pick(5_000, 2) == 2
