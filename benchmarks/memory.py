"""Memory: the peak of training relative to the floor, and the growth of evaluations with the data.

Every value is measured in its own process. `dpvae.train` is a whole run with imports, validation,
checkpoint and sample picture; `our steps` is training steps only. An evaluation is bounded if
four times as many images need at most a quarter more memory in addition to the data.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks import processes, stand_ins
from benchmarks.floor import BareLoop
from benchmarks.measure import Absent, Options, Ratio, Trial, over
from dpvae_cli.data import Dataset
from dpvae_cli.model import build
from dpvae_cli.recipe import load_recipe

DEVICES = ("cpu",)
STEPS = 30
FEW, MANY = 7_500, 30_000
METRICS = (
    "skl", "skl_knn", "nll", "leak", "elbo", "active_units", "path", "fid", "fid_lp", "kid",
)  # fmt: skip
SIZES = {
    "samples": 1_000,
    "nll_samples": 2_000,
    "nll_images": 2,
    "fid_samples": 1_000,
}
TRAIN, STEPS_ALONE, FLOOR = "dpvae.train", "our steps", "floor"

RATIOS = {
    "training": (
        Ratio("peak memory of training, over the floor's", over(TRAIN, FLOOR), at_most=1.15),
        Ratio("peak memory of our steps alone, over the floor's", over(STEPS_ALONE, FLOOR)),
    ),
    "evaluation": tuple(
        Ratio(
            f"memory of {metric}: {MANY:,} images over {FEW:,}",
            over(f"{metric}, N = {MANY}", f"{metric}, N = {FEW}"),
            at_most=1.25,
        )
        for metric in METRICS
    ),
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield trials of training on MNIST-shaped data, then of every metric on two data sizes."""
    count, steps = options.pick(stand_ins.MNIST, 500), options.pick(STEPS, 2)
    works = {TRAIN: train, STEPS_ALONE: our_steps, FLOOR: floor}
    variants = {name: processes.peak(work, count, steps) for name, work in works.items()}
    facts = {"training images": count, "steps": steps}
    yield Trial("training", variants, "MiB", facts, warm_up=False)
    with TemporaryDirectory() as name:
        yield evaluations(options, small_extractor(Path(name) / "means.pt"))


def evaluations(options: Options, extractor: Path) -> Trial:
    sizes = {n: options.pick(n, n // 75) for n in (FEW, MANY)}
    measured = options.pick(METRICS, METRICS[:1])
    variants = {
        f"{metric}, N = {n}": processes.growth(prepared, metric, size, extractor)
        if metric in measured
        else Absent("left out by --quick")
        for metric in METRICS
        for n, size in sizes.items()
    }
    return Trial("evaluation", variants, "MiB", SIZES, warm_up=False)


def train(count: int, steps: int) -> None:
    import dpvae_cli as dpvae  # noqa: PLC0415 - the floor does not import all of it

    recipe = load_recipe("vae_mnist", [f"training.iterations={steps}"])
    with TemporaryDirectory() as name:
        data = stand_ins.mnist(count)
        dpvae.train(recipe, Path(name) / "run", dataset=data, device="cpu")


def our_steps(count: int, steps: int) -> None:
    from dpvae_cli.training.train import Trainer  # noqa: PLC0415 - as above

    trainer = Trainer(load_recipe("vae_mnist"), stand_ins.mnist(count), torch.device("cpu"))
    for _ in range(steps):
        trainer.step()


def floor(count: int, steps: int) -> None:
    """Run the bare loop on 8-bit images, as stored by dpvae."""
    recipe, data = load_recipe("vae_mnist"), stand_ins.mnist(count)
    loop = BareLoop(
        build(recipe, example_shape=data.example_shape),
        data.train.stored,
        batch_size=recipe.training.batch_size,
        learning_rate=recipe.training.learning_rate,
    )
    for _ in range(steps):
        loop.step()


def prepared(metric: str, count: int, extractor: Path) -> Callable[[], object]:
    """Return the evaluation of a metric of an untrained MNIST model on `count` images."""
    import dpvae_cli as dpvae  # noqa: PLC0415 - as above

    recipe = load_recipe("vae_mnist")
    data = stand_ins.mnist(count)
    model = build(recipe, example_shape=data.example_shape)
    evaluation = recipe.evaluation.model_copy(update=SIZES)
    options = dpvae.FeatureOptions(features=extractor, trust=True)

    def measured(data: Dataset) -> None:
        dpvae.evaluate(model, data, [metric], evaluation=evaluation, features=options)

    measured(stand_ins.mnist(300))  # imports and caches that do not depend on the number of images
    return lambda: measured(data)


def small_extractor(path: Path) -> Path:
    """Write an exported network with few features and negligible memory."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit")
        torch.jit.save(torch.jit.script(network), path)
    return path
