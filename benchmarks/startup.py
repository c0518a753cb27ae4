"""Run time of commands as processes."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Options, Ratio, Trial, alone, timed
from benchmarks.processes import command
from dpvae_cli import load_recipe, train

DEVICES = ("cpu",)
HELP, SAMPLE, TORCH = "dpvae --help", "dpvae sample", "import torch"
RATIOS = {
    "commands": (
        Ratio("dpvae --help", alone(HELP), at_most=0.4, unit="s"),
        Ratio(
            "dpvae sample on a moons checkpoint, over 1.25 x import torch + 1 s",
            lambda figures: figures[SAMPLE] / (1.25 * figures[TORCH] + 1),
            at_most=1,
        ),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial of three processes; the checkpoint is from a run of a few steps."""
    with TemporaryDirectory() as name:
        run = Path(name) / "run"
        train(load_recipe("vae_moons", ["training.iterations=10"]), run, device="cpu")
        sample = ("sample", str(run), "--out", str(Path(name) / "samples.png"))
        works = {
            TORCH: command("-c", "import torch"),
            HELP: command("-m", "dpvae_cli", "--help"),
            SAMPLE: command("-m", "dpvae_cli", *sample),
        }
        variants = {k: timed(work, device=options.device) for k, work in works.items()}
        yield Trial("commands", variants, "s")
