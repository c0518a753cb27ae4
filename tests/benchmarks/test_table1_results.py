"""docs/table1.md has the results of kept runs, and verdicts that follow from them."""

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks import table1_results
from dpvae_cli.foundation.array_files import write_cache
from dpvae_cli.recipe import load_recipe
from tests.studies.runs import result, write_run

SMALL = ("training.iterations=1000", "training.log_every=100", "training.validate_every=500")
NORMAL, DECOUPLED = "standard_normal", "decoupled"


def leak(values, errors=(0.001, 0.001, 0.01)):
    return result(
        "leak",
        values[1],
        value_at_quantile=0.05,
        thresholds=[-10.0],
        values=[None],
        standard_errors=[None],
        quantiles=[0.001, 0.01, 0.05],
        quantile_values=list(values),
        quantile_standard_errors=list(errors),
    )


def fid(name, value, **details):
    return result(name, value, unit="squared feature units", **details) | {"standard_error": None}


def path(gain):
    drop = {"value": 3.0, "standard_error": 0.5}
    return result("path", gain, drop_z=drop, drop_z0=drop)


RESULTS = {
    NORMAL: [
        result("skl", 0.5),
        result("nll", 493.0) | {"standard_error": 2.0},
        fid("fid768", 2.0),
        fid("fid768_lp", 2.2, null={"value": 2.1}),
        leak([0.2, 0.3, 0.1]),
    ],
    DECOUPLED: [
        result("skl", 0.2),
        result("nll", 492.0) | {"standard_error": 4.02**0.5},
        fid("fid768", 2.1),
        fid("fid768_lp", 2.15, null={"value": 2.1}),
        leak([None, 0.1, 0.2], errors=[None, 0.001, 0.01]),
        path(4.0),
    ],
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["table1_results", "--runs", str(tmp_path / "runs")])
    monkeypatch.setattr(table1_results, "KEPT", tmp_path / "kept")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table1_results.BEGIN}\nold\n{table1_results.END}\nafter\n")
    sys.argv += ["--kept", str(tmp_path / "kept"), "--page", str(page)]
    return tmp_path


def write(place, prior, *, reached=1000, recipe="vae_mnist", seed=0):
    recipe = load_recipe(recipe, [f"prior={prior}", f"seed={seed}", *SMALL])
    name = f"{recipe.name}-{prior}-seed{seed}"
    results = RESULTS[prior]
    folder = write_run(place / "runs", results=results, recipe=recipe, name=name, reached=reached)
    (folder / "environment.json").write_text('{"device": "cpu", "command": ["/secret/dpvae"]}')
    # both priors have the same images in common, and little besides
    common = np.array([1.0, 1.0, -1.0, -1.0], np.float32)
    own = np.zeros(4, np.float32)
    if prior == DECOUPLED:
        own[:2] = 0.1, -0.1
    write_cache(folder / "metrics_terms.npz", {"nll": common + own}, checkpoint="0")
    return folder


def run(place):
    table1_results.main()
    return (place / "page.md").read_text(encoding="utf-8")


def claims(page):
    rows = [line for line in page.splitlines() if line.startswith("| (")]
    return {line[3]: [cell.strip() for cell in line.split("|")[2:4]] for line in rows}


def test_one_pair(place):
    write(place, NORMAL)
    write(place, DECOUPLED)
    page = run(place)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    found = claims(page)
    one = "in the one pair measured**"
    assert found["a"] == [
        f"**does not hold {one}",
        "vae_mnist, seed 0: does not hold (FID-768 +0.1 (no error))",
    ]
    assert found["b"][0] == f"**holds {one}"
    assert "standard normal +10.0%; decoupled +2.4%" in found["b"][1]
    assert found["c"][0] == f"**holds {one}"
    assert "sKL -0.300 ± 0.014 nats" in found["c"][1]
    # paired: sqrt(0.1^2 + 0.1^2), not sqrt(2^2 + 2^2)
    assert "nll -1.00 ± 0.14 nats" in found["d"][1]
    assert found["d"][0] == f"**holds {one}"
    assert "0.1 %: -0.2000 ± 0.0010; 1 %: -0.2000 ± 0.0014; 5 %: +0.100 ± 0.014" in found["e"][1]
    assert found["e"][0] == f"**holds {one}"
    assert found["f"][0] == f"**holds {one}"
    assert "| vae_mnist, seed 0 | standard normal | 2 | 137.4 | 2.2 | 2.1 | 165 |" in page
    assert "|  | decoupled | 2.1 | 129 | 2.15 | 2.1 | 153.1 |" in page


def test_what_is_kept(place):
    write(place, DECOUPLED)
    run(place)
    kept = place / "kept" / "vae_mnist-decoupled-seed0"
    lines = (kept / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [500, 1000]
    texts = [path.read_text(encoding="utf-8") for path in kept.glob("*.json")]
    assert len(texts) == 2
    assert not any(str(place) in text or "secret" in text for text in texts)
    shutil.rmtree(place / "runs")
    (place / "runs").mkdir()
    sys.argv = [part for part in sys.argv if part not in ("--runs", str(place / "runs"))]
    assert claims(run(place))["f"][0] == "**holds in the one pair measured**"


def test_without_a_twin_or_unmeasured(place, capsys):
    write(place, DECOUPLED)
    (write(place, NORMAL, reached=500) / "metrics.json").unlink()
    found = claims(run(place))
    assert found["c"] == ["**not measured yet**", "-"]
    assert found["f"][0] == "**holds in the one pair measured**"
    assert "left out: vae_mnist-standard_normal-seed0: at iteration 500 of 1,000" in (
        capsys.readouterr().out
    )


def test_runs_at_fewer_iterations_say_so_and_compare_with_their_like(place):
    write(place, DECOUPLED)
    write(place, NORMAL, reached=500)
    assert claims(run(place))["c"] == ["**not measured yet**", "-"]
    shutil.rmtree(place / "runs")
    shutil.rmtree(place / "kept")
    write(place, DECOUPLED, reached=500)
    write(place, NORMAL, reached=500)
    label = "vae_mnist, seed 0, at 500 of 1,000 iterations"
    for _ in range(2):  # from the runs, then from what is kept of them
        page = run(place)
        assert f"| {label} | standard normal | 500 |" in page
        assert claims(page)["c"][1].startswith(f"{label}: holds (sKL")
        shutil.rmtree(place / "runs", ignore_errors=True)
        (place / "runs").mkdir()
        sys.argv = [part for part in sys.argv if part not in ("--runs", str(place / "runs"))]


def test_several_pairs(place):
    for recipe, seed in (("vae_mnist", 0), ("vae_mnist", 1), ("info_mnist", 0)):
        for prior in (NORMAL, DECOUPLED):
            write(place, prior, recipe=recipe, seed=seed)
    page = run(place)
    assert claims(page)["c"][0] == "**holds in 3 of 3 pairs**"
    assert "| info_mnist, seed 0 | standard normal | 2 | 128.7 |" in page


def test_nothing_yet(place):
    sys.argv = [part for part in sys.argv if part not in ("--runs", str(place / "runs"))]
    page = run(place)
    assert "No run is evaluated yet." in page
    assert {verdict for verdict, _ in claims(page).values()} == {"**not measured yet**"}


def test_counts_of_verdicts():
    verdicts = [table1_results.FAILS, table1_results.HOLDS, table1_results.MISSING]
    expected = "holds in 1 of 2 pairs, does not hold in 1"
    assert table1_results.count(verdicts) == expected


def test_a_small_difference_is_unclear():
    assert table1_results.sign(-1.0, 0.6) == table1_results.UNCLEAR
    assert table1_results.sign(-1.0, 0.4) == table1_results.HOLDS
    assert table1_results.sign(1.0, None) == table1_results.FAILS
