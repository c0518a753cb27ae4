"""Scaling of cost with size: each size is a variant, and an exponent is fitted in every round.

The exponent is the slope of log cost over log size. It may exceed the exponent of the arithmetic
by 0.1, to allow for cache effects.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from benchmarks import stand_ins
from benchmarks.aggregate_posterior import drawn
from benchmarks.frechet import random_statistics
from benchmarks.measure import Options, Ratio, Round, Trial, timed
from dpvae_cli import AggregatePosterior, frechet_distance
from dpvae_cli.evaluation.nll import negative_log_likelihoods
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import VAE, build
from dpvae_cli.priors import Decoupled
from dpvae_cli.recipe import load_recipe
from dpvae_cli.sampling.samples import encode
from dpvae_cli.training.train import Trainer

TOLERANCE = 0.1
Work = Callable[[], object]


@final
@dataclass(frozen=True)
class Axis:
    """An axis of growth: sizes, the work for a size, and the exponent of the arithmetic."""

    name: str
    sizes: Sequence[int]
    work: Callable[[int, torch.device], Work]
    exponent: int = 1


def log_q(n: int, latent_dim: int, points: int, device: torch.device) -> Work:
    aggregate = AggregatePosterior(*(t.to(device) for t in drawn(n, latent_dim, 0.1)))
    z = torch.randn(points, latent_dim, device=device)
    return lambda: aggregate.log_prob(z)


def coupling(blocks: int, latent_dim: int, batch: int, device: torch.device) -> Work:
    stack = Decoupled(blocks=blocks).build(latent_dim).bijection.to(device)
    z = torch.randn(batch, latent_dim, device=device)
    return torch.no_grad()(lambda: stack.inverse(stack.forward(z)[0]))


def step(batch: int, shape: tuple[int, ...], device: torch.device) -> Work:
    """Return a training step of convolutions with a depth independent of the image size."""
    kind = "mnist_conv" if shape == (1, 28, 28) else "{kind: conv, depth: 3, latent_dim: 16}"
    sizes = [f"architecture={kind}", f"training.batch_size={batch}"]
    recipe = load_recipe("vae_mnist", sizes)
    return Trainer(recipe, stand_ins.dataset(4 * batch, *shape), device).step


def mnist_model(device: torch.device) -> VAE:
    return build(load_recipe("vae_mnist"), example_shape=(1, 28, 28)).to(device).eval()


def nll(samples: int, device: torch.device) -> Work:
    model, x = mnist_model(device), stand_ins.mnist(1).train.examples().to(device)
    return lambda: negative_log_likelihoods(
        model, x, samples=samples, generators=[stream(0, "growth", device=device)]
    )


def encoding(count: int, device: torch.device) -> Work:
    model, split = mnist_model(device), stand_ins.mnist(count).train
    return lambda: encode(model, split)


def frechet(dimensions: int, _: torch.device) -> Work:
    pair = [random_statistics(np.random.default_rng(seed), dimensions) for seed in range(2)]
    return lambda: frechet_distance(*pair[0], *pair[1])


AXES = (
    Axis("log q(z) with N", (7_500, 15_000, 30_000, 60_000), lambda n, d: log_q(n, 8, 2_000, d)),
    Axis("log q(z) with L", (8, 16, 32, 64), lambda n, d: log_q(20_000, n, 2_000, d)),
    Axis("log q(z) with points", (1_000, 2_000, 4_000, 8_000), lambda n, d: log_q(20_000, 8, n, d)),
    Axis("coupling with blocks", (3, 6, 12, 24), lambda n, d: coupling(n, 32, 2_000, d)),
    Axis("coupling with L", (16, 32, 64, 128), lambda n, d: coupling(6, n, 2_000, d)),
    Axis("coupling with batch", (500, 1_000, 2_000, 4_000), lambda n, d: coupling(6, 32, n, d)),
    Axis("training step with batch", (50, 100, 200, 400), lambda n, d: step(n, (1, 28, 28), d)),
    Axis(
        "training step with pixels",
        (32**2, 64**2, 128**2),
        lambda n, d: step(16, (3, math.isqrt(n), math.isqrt(n)), d),
    ),
    Axis("nll with samples", (2_000, 4_000, 8_000, 16_000), nll),
    Axis("encoding with images", (1_000, 2_000, 4_000, 8_000), encoding),
    Axis("Frechet distance with dimensions", (256, 512, 1_024), frechet, exponent=3),
)


def slope(figures: Round) -> float:
    """Return the exponent: the slope of log cost over log size."""
    sizes = [math.log(int(size)) for size in figures]
    return statistics.linear_regression(sizes, [math.log(cost) for cost in figures.values()]).slope


RATIOS = {
    axis.name: (
        Ratio(f"growth of {axis.name}: exponent", slope, at_most=axis.exponent + TOLERANCE),
    )
    for axis in AXES
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield one trial per axis; `quick` uses the two smallest sizes."""
    for axis in AXES:
        sizes = axis.sizes[: options.pick(None, 2)]
        yield Trial(axis.name, {str(n): variant(axis, n, options) for n in sizes}, "s")


def variant(axis: Axis, size: int, options: Options):
    """Return the work for a size, repeated to take as long as the largest size."""
    times = options.pick(max(1, axis.sizes[-1] // size), 1)
    work = axis.work(size, options.device)
    return timed(lambda: [work() for _ in range(times)][-1], units=times, device=options.device)
