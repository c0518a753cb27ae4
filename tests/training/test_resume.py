"""A resumed run gives the very numbers of an uninterrupted one."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe.loading import with_overrides
from dpvae_cli.runs import checkpoint as checkpoints
from dpvae_cli.training.events import Callback, graceful_shutdown
from dpvae_cli.training.train import train
from tests.same import assert_same_run, logged
from tests.small import OTHER_PRIORS, PRIORS, REGULARIZERS, SMALL, small_recipe


class PowerCut(Exception):
    """Stands for the machine going away."""


class CutAt(Callback):
    """Hears of a run and ends it brutally after a step."""

    def __init__(self, iteration):
        self._iteration = iteration

    def on_step(self, iteration):
        if iteration == self._iteration:
            raise PowerCut


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_cut_run_resumes_to_the_bit(regularizer, prior, tmp_path):
    recipe = small_recipe(regularizer, f"prior={prior}")
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(13))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("prior", OTHER_PRIORS, ids=lambda prior: prior.strip("{}")[:30])
def test_a_cut_run_of_any_prior_resumes_to_the_bit(prior, tmp_path):
    recipe = small_recipe("info", f"prior={prior}", "training.ema=0.9")
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(13))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_cut_before_its_first_checkpoint_starts_again(tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(3))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_dynamic_binarisation_resumes_to_the_bit(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (80, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    small = [s for s in SMALL if not s.startswith("data.")]
    data = f"data={{kind: arrays, path: {tmp_path}/x.npy, binarize: dynamic}}"
    recipe = small_recipe("vae")
    recipe = type(recipe).load("vae_moons", [*small, data, "likelihood=bernoulli"])
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(7))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16", "float64"])
@pytest.mark.parametrize("regularizer", ["factor", "info"])
def test_every_precision_and_the_average_resume_to_the_bit(regularizer, precision, tmp_path):
    recipe = small_recipe(
        regularizer,
        *(f"training.precision={precision}", "training.ema=0.7", "training.learning_rate=0.01"),
    )
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(13))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert checkpoints.read_checkpoint(tmp_path / "cut" / "checkpoint.pt").part("ema")


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_convolutions_resume_to_the_bit_in_every_precision(precision, tmp_path):
    """Under bf16 their weights and moments are laid out channels last."""
    values = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    recipe = small_recipe(
        "factor",
        f"data={{kind: arrays, path: {tmp_path}/x.npy}}",
        "architecture={kind: svhn_conv, latent_dim: 2}",
        *("training.batch_size=4", "training.iterations=6", "training.checkpoint_every=2"),
        *("training.validate_every=3", f"training.precision={precision}", "training.ema=0.9"),
    )
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(5))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("regularizer", ["vae", "factor"])
@pytest.mark.parametrize(("kind", "side"), [("svhn_conv", 32), ("celeba_conv", 64)])
def test_batch_norm_resumes_to_the_bit(kind, side, regularizer, tmp_path):
    """Its running means are in the checkpoint; factor's second batch moves them too."""
    values = np.random.default_rng(0).integers(0, 256, (20, 3, side, side), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    recipe = small_recipe(
        regularizer,
        f"data={{kind: arrays, path: {tmp_path}/x.npy}}",
        f"architecture={{kind: {kind}, latent_dim: 2}}",
        *("training.batch_size=4", "training.iterations=6", "training.checkpoint_every=2"),
        "training.validate_every=3",
    )
    train(recipe, tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(recipe, tmp_path / "cut", callback=CutAt(5))
    train(recipe, tmp_path / "cut", mode="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    tensors = checkpoints.read_checkpoint(tmp_path / "cut" / "checkpoint.pt").tensors
    batches = {int(tensors[name]) for name in tensors if name.endswith("num_batches_tracked")}
    assert max(batches) == (12 if regularizer == "factor" else 6)


def test_iterations_may_grow_and_the_schedule_stays(tmp_path):
    recipe = small_recipe("beta_b")
    train(recipe, tmp_path / "run")
    longer = with_overrides(recipe, ["training.iterations=30"])
    assert longer.regularizer.stop_step == 20
    train(longer, tmp_path / "run", mode="resume")
    again = small_recipe("beta_b", "training.iterations=40")
    assert again.regularizer.stop_step == 40
    train(again, tmp_path / "run", mode="resume")
    found = checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (found.iteration, found.recipe.regularizer.stop_step) == (40, 20)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.iterations=10", "training.iterations"),
        ("seed=5", "seed"),
        ("prior=standard_normal", "prior"),
        ("likelihood.scale=0.5", "likelihood.scale"),
    ],
)
def test_nothing_else_may_change(override, named, tmp_path):
    train(small_recipe(), tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(UsageError, match=named):
        train(small_recipe("vae", override), tmp_path / "run", mode="resume")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        train(small_recipe(), tmp_path / "run", mode="resume")


def start(folder, *more):
    """Start `dpvae train` as a process of its own and wait until its first checkpoint is there."""
    command = [sys.executable, "-m", "dpvae_cli", "train", "vae_moons", *SMALL, *LONG]
    process = subprocess.Popen(
        [*command, *more, "--run-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=folder.parent,
    )
    for _ in range(2_400):
        if (folder / "checkpoint.pt").is_file() or process.poll() is not None:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError("no checkpoint after two minutes")


LONG = ("training.iterations=1500", "training.checkpoint_every=50", "training.validate_every=500")

ENDLESS = "training.iterations=1000000"  # nothing can be done before the test acts


def finish(folder):
    """Resume the run and wait until it is complete."""
    command = [sys.executable, "-m", "dpvae_cli", "train", "--resume", "--run-dir", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=str
)
def test_a_signal_saves_and_names_the_resuming_command(number, tmp_path):
    """Meanwhile a second process is refused."""
    process = start(tmp_path / "run", ENDLESS)
    with pytest.raises(UsageError, match="in use by another process"):
        train(small_recipe(), tmp_path / "run", mode="resume")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"dpvae train --resume --run-dir {tmp_path / 'run'}" in stderr
    assert "Traceback" not in stderr
    found = checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert f"stopped at iteration {found.iteration} of 1000000" in stderr
    assert logged(tmp_path / "run")[-1]["iteration"] <= found.iteration


def test_a_closing_terminal_may_hang_up_twice():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
    try:
        with graceful_shutdown() as request:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
            assert request.signal_number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful_shutdown() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_training_goes_on_when_nobody_reads_its_progress(tmp_path):
    """As with `2>&1 | tee log` whose tee is killed: the run comes to its end all the same."""
    process = start(tmp_path / "run", "training.iterations=300", "training.validate_every=5")
    process.stderr.close()
    result = process.stdout.read()
    assert process.wait(timeout=60) == 0
    assert result.strip() == str(tmp_path / "run")
    assert checkpoints.read_checkpoint(tmp_path / "run" / "checkpoint.pt").iteration == 300
    assert (tmp_path / "run" / "samples.png").is_file()


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_bit(tmp_path):
    process = start(tmp_path / "killed")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert checkpoints.read_checkpoint(tmp_path / "killed" / "checkpoint.pt").iteration < 1500
    finish(tmp_path / "killed")
    whole = start(tmp_path / "whole")
    whole.communicate(timeout=120)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
