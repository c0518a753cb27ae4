"""`dpvae train` and `dpvae eval` in several processes, as torchrun starts them."""

import json
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from dpvae_cli.cli.app import app
from tests.launching import ROOT, forked, torchrun
from tests.small import SMALL

LONG = ("training.iterations=1000000", "training.checkpoint_every=1000000", "training.log_every=10")


def train(size, run, *arguments, recipe="beta_tc_moons"):
    return torchrun(
        size, "dpvae_cli", "train", recipe, *SMALL, *arguments, "--run-dir", run, "--device", "cpu"
    )


def one_process(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    return done


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def by_torchrun(size, *arguments):
    return torchrun(size, "dpvae_cli", *arguments)


@pytest.mark.parametrize("launch", [forked, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_train_resume_and_evaluate_like_one(launch, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    start = ("train", "beta_tc_moons", *SMALL, "--device", "cpu", "--run-dir", together)
    one_process("train", "beta_tc_moons", *SMALL, "--run-dir", alone)
    begun = launch(2, *start, "training.iterations=10")
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout.splitlines() == [str(together)]
    # a run of two processes goes on in one, and one of one in two
    resumed = ("train", "--resume", "--run-dir", together, "training.iterations=20")
    one_process(*resumed)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    begun = launch(2, *resumed[:-1], "training.iterations=30", "--device", "cpu")
    assert begun.returncode == 0, begun.stderr
    one_process("train", "--resume", "--run-dir", alone, "training.iterations=30")
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    assert len(losses(together)) == 6

    measured = []
    asked = ("eval", alone, "--metrics", "skl,nll,leak,elbo,manifold_lp", "--json")
    for run in (lambda: launch(2, *asked), lambda: one_process(*asked)):
        for kept in ("checkpoint.encodings.npz", "checkpoint.nll.npz"):
            (alone / kept).unlink(missing_ok=True)
        done = run()
        measured.append(json.loads(done.stdout)["runs"][0]["results"])
    both, one = ({r["metric"]: r["value"] for r in results} for results in measured)
    assert both.keys() == one.keys()
    assert both == pytest.approx(one, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["diverges", "breaks", "is_killed"])
def test_one_that_fails_ends_all_and_its_error_is_told_once(tmp_path, how):
    start = time.monotonic()
    done = torchrun(
        2,
        "tests.training.failing",
        how,
        "train",
        "vae_moons",
        *SMALL,
        "training.iterations=1000000",
        "--run-dir",
        tmp_path / "run",
        "--device",
        "cpu",
        timeout=60,
    )
    assert done.returncode != 0
    assert time.monotonic() - start < 60
    said = {
        "diverges": "Error: this is process 1's own error",
        "breaks": "KeyError: 'breaks'",
        "is_killed": "another process of this run ended without a report",
    }[how]
    assert done.stderr.count(said) == 1, done.stderr
    if how == "diverges":
        assert "Traceback" not in done.stderr.split("ChildFailedError")[0].split(said)[0]
    assert (tmp_path / "run" / "checkpoint.pt").is_file()  # of iteration 5, whole
    one_process("eval", tmp_path / "run", "--metrics", "active_units")


def test_a_signal_stops_all_at_one_iteration_and_saves(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    started = subprocess.Popen(
        [*command, "-m", "dpvae_cli", "train", "vae_moons", *SMALL, *LONG, "--run-dir", str(run)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = run / "metrics.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.is_file() and log.read_text().count("\n") > 2):
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    _, stderr = started.communicate(timeout=60)
    assert stderr.count("stopped at iteration") == 1, stderr
    one_process("eval", run, "--metrics", "active_units")  # of a checkpoint that is whole


@pytest.mark.slow
def test_bad_input_is_told_once(tmp_path):
    done = train(3, tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count("training.batch_size 16 cannot be shared by 3 processes") == 1
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    other = torchrun(2, "dpvae_cli", "sample", tmp_path)
    assert other.stderr.count("sample runs in one process, and here are 2") == 1
