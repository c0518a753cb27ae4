"""`dpvae reproduce` through its entry point: plan, run, go on, fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from dpvae_cli.studies import catalogue
from tests.studies.tiny import written


def run(*arguments):
    on_cpu = [] if "--device" in arguments or not arguments else ["--device", "cpu"]
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments), *on_cpu])


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def checkpoints():
    return sorted(Path("studies/tiny").glob("*/checkpoint.pt"))


def test_without_a_study_they_are_listed():
    done = run()
    assert done.exit_code == 0
    assert all(name in done.stdout for name in catalogue.study_names())


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tmp_path):
    written(tmp_path)
    done = run("tiny.yaml", "--dry-run", "seed=[0, 1]", "--only", "*-decoupled-*", "--jobs", 2)
    assert done.exit_code == 0, done.output
    assert "vae_moons-decoupled-seed1-" in done.stdout
    assert "standard_normal" not in done.stdout
    assert "studies/tiny: 2 cells, 2 new; about" in done.stdout
    assert "with 2 at once (from a few timed steps, without what metrics take)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_study_is_run_gone_on_with_and_left_alone(tmp_path):
    path = written(tmp_path, figures=["leakage", "training"])
    done = run(path, "--jobs", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "studies/tiny",
        "studies/tiny/figures/leakage.png",
        "studies/tiny/figures/training.png",
        *(f"studies/tiny/report.{suffix}" for suffix in ("html", "md", "tex", "csv", "json")),
    ]
    assert "studies/tiny: 2 cells, 2 new" in done.stderr
    assert done.stderr.count(": started") == 2
    assert "[2/2] vae_moons-" in done.stderr
    assert not Path("runs").exists()
    before = {file: file.stat().st_mtime_ns for file in checkpoints()}
    assert len(before) == 2
    done = run("studies/tiny/study.yaml", "--jobs", 2)
    assert done.exit_code == 0, done.output
    assert "studies/tiny: 2 cells, 2 done\n" in done.stderr
    assert "started" not in done.stderr
    assert {file: file.stat().st_mtime_ns for file in checkpoints()} == before
    for file in before:
        kept = json.loads((file.parent / "metrics.json").read_text())
        assert {result["metric"] for result in kept["results"]} >= {"skl", "manifold", "leak"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tabel1"], "did you mean table1?"),
        (["tiny.yaml", "training.iteratons=5"], "did you mean iterations?"),
        (["tiny.yaml", "regularizer.beta=5"], "(in vae_moons)"),
        (["tiny.yaml", "--only", "nothing"], "fits no cell"),
        (["tiny.yaml", "--address", "auto"], "--executor ray"),
        (["tiny.yaml", "--gpu-share", "0"], "--gpu-share"),
        (["tiny.yaml", "--device", "cuda:77"], "not available"),
        (["tiny.yaml", "--fid-dimensions", "100"], "2048, 768, 192, 64"),
        (["tiny.yaml", "metrics=[sklx]"], "did you mean skl?"),
    ],
)
def test_mistakes_end_with_a_message_and_code_2(arguments, said, tmp_path):
    written(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert not Path("studies").exists()


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.delitem(sys.modules, "dpvae_cli.studies.executors.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("tiny.yaml", "--executor", "ray")
    assert done.exit_code == 2, done.output
    assert "ray is not installed" in done.stderr
    assert "pip install ray" in done.stderr


def test_no_ray_is_imported_without_need(tmp_path):
    path = written(tmp_path)
    code = (
        "import sys; from dpvae_cli.cli.app import app\n"
        f"asked = ['reproduce', {str(path)!r}, '--dry-run', '--device', 'cpu']\n"
        "app(asked, standalone_mode=False)\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failed_cell_ends_with_1_and_the_others_are_done(tmp_path):
    path = written(tmp_path, axes={"training.learning_rate": [1e30, 1e-3]})
    done = run(path, "--jobs", 1, "--quiet")
    assert done.exit_code == 1
    assert "failed: training diverged at iteration" in done.stderr
    states = run(path, "--dry-run").stdout
    assert "1 done" in states
