"""Tables of results: digits, names of columns, and what does not compare."""

import pytest

from dpvae_cli.cli.result_tables import (
    check_comparable,
    comparison_table,
    distinct_parts,
    footnotes,
    run_table,
)
from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.recipe import load_recipe

TWINS = ("vae_moons-standard_normal-seed0", "vae_moons-decoupled-seed0")


def result(metric, value, error=None, *, unit="nats", **details):
    return Result(metric, value, error, unit, 5_000, 0, "test", details=details)


def run(name, *results, checkpoint=None):
    return RunResults(name, checkpoint or f"runs/{name}/checkpoint.pt", "vae_moons", results, "", 1)


@pytest.mark.parametrize(
    ("names", "shared", "parts"),
    [
        (TWINS, "vae_moons, seed0", ["standard_normal", "decoupled"]),
        (("a-decoupled-seed0", "a-decoupled-seed1"), "a, decoupled", ["seed0", "seed1"]),
        (("a-p-seed0", "b-q-seed0", "c-q-seed0"), "seed0", ["a-p", "b-q", "c-q"]),
        (("a-p-seed0", "a-p-seed0-beta=4"), "a, p", ["seed0", "seed0-beta=4"]),
        (("first", "second"), "", ["first", "second"]),
        (("same", "same"), "", ["same", "same"]),
    ],
)
def test_columns_are_named_by_what_differs(names, shared, parts):
    assert distinct_parts(names) == (shared, parts)


def test_two_runs_of_one_name_are_told_apart_by_their_folders():
    runs = [run("x", result("skl", 1.0), checkpoint=f"{folder}/x/checkpoint.pt") for folder in "ab"]
    assert comparison_table(runs)[0] == ["metric", "a", "b", "difference"]


def test_one_run_is_rounded_as_two_are():
    some = run("a", result("skl", 1.23456, 0.0123), result("fid", 12.3456))
    cells = [row[1] for row in run_table(some)[1]]
    assert cells == ["1.235 ± 0.012", "12.35"]
    assert [row[1] for row in comparison_table([some, some])[1]] == cells


def test_effective_samples_have_a_row_and_few_of_them_a_warning():
    good = result("nll", 90.0, 1.0, effective_samples_median=812.3)
    bad = result("nll", 95.0, 1.0, effective_samples_median=3.0, effective_samples_note="too few")
    _, rows = run_table(run("a", good))
    assert rows[1][:3] == ["nll effective samples", "812.3", "draws, median"]
    _, rows = comparison_table([run("a", good), run("b", bad)])
    assert rows[1][:3] == ["nll effective samples [draws, median]", "812.3", "3"]
    assert footnotes([run("a", good), run("b", bad)]) == ["Warning: b: too few."]


def recipes(*overrides):
    return [load_recipe("vae_moons"), load_recipe("vae_moons", list(overrides))]


def test_runs_of_different_data_have_no_difference():
    runs = [run(name, result("skl", 1.0, 0.1)) for name in ("a", "b")]
    other = load_recipe("vae_mnist")
    lines, incomparable = check_comparable(runs, [load_recipe("vae_moons"), other])
    assert lines == [
        "The runs have different data (data.kind: moons and mnist): they do not compare."
    ]
    assert "difference" not in comparison_table(runs, incomparable=incomparable)[0]
    lines, _ = check_comparable(runs, recipes("data.noise=0.1"))
    assert "data.noise: 0.05 and 0.1" in lines[0]


def test_other_sizes_of_one_data_set_are_said_and_compared():
    runs = [run(name, result("skl", 1.0, 0.1)) for name in ("a", "b")]
    lines, incomparable = check_comparable(runs, recipes("data.train=500"))
    assert "different amounts of data (data.train: 10000 and 500)" in lines[0]
    assert comparison_table(runs, incomparable=incomparable)[1][0][-1] != "-"
    assert check_comparable(runs, recipes("prior=standard_normal")) == ([], ())


def test_other_likelihoods_and_units_leave_their_metrics_without_a_difference():
    runs = [
        run("a", result("nll", 90.0, 1.0), result("skl", 1.0, 0.1), result("fid", 2.0)),
        run("b", result("nll", 80.0, 1.0), result("skl", 2.0, 0.1), result("fid", 3.0, unit="px")),
    ]
    binary = recipes()[0].model_copy(
        update={"likelihood": load_recipe("vae_mnist_binary").likelihood}
    )
    lines, incomparable = check_comparable(runs, [recipes()[0], binary])
    assert "different likelihoods (gaussian and bernoulli): nll" in lines[0]
    assert "different units, and not to be compared: fid" in lines[1].replace("In ", "")
    rows = {row[0]: row[-1] for row in comparison_table(runs, incomparable=incomparable)[1]}
    assert rows["nll [nats]"] == rows["fid [nats / px]"] == "-"
    assert rows["skl [nats]"].startswith("+1.00")
