"""Exact log q(z), compared with torch's MixtureSameFamily on the same components.

    python -m benchmarks.aggregate_posterior [--rounds 5]

The mixture uses float32, as its users do, and the best of a few chunk sizes. It is timed on some
of the points and scaled, because all of them would take minutes. Memory is measured for ours
only, in addition to the components.
"""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from benchmarks import processes
from benchmarks.measure import Options, Ratio, Trial, alone, timed
from dpvae_cli import AggregatePosterior

COMPONENTS, POINTS, TIMED = 60_000, 10_000, 48
TARGETS = {2: 12, 32: 35}
SCALES = (0.3, 0.03)
CHUNKS = {f"mixture, {size} at a time": size for size in (1, 4, 16)}
MEMORY = ((60_000, 32), (162_770, 64))

RATIOS = {
    f"L = {latent_dim}, scale {scale}": (
        Ratio(
            f"log q(z), L = {latent_dim}, scale {scale}: MixtureSameFamily over ours",
            lambda figures: min(figures[name] for name in CHUNKS) / figures["ours"],
            at_least=TARGETS[latent_dim],
        ),
    )
    for latent_dim, scale in product(TARGETS, SCALES)
} | {
    "memory": tuple(
        Ratio(f"log q(z): memory above N = {n:,} components, L = {latent_dim}",
              alone(f"N = {n}, L = {latent_dim}"), unit="MiB")
        for n, latent_dim in MEMORY
    )
}  # fmt: skip


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial per latent dimension and width of the components, then one for memory."""
    for latent_dim, scale in product(TARGETS, SCALES):
        yield compared(latent_dim, scale, options)
    if options.device.type == "cpu":
        yield memory(options)


def compared(latent_dim: int, scale: float, options: Options) -> Trial:
    count, points = options.pick(COMPONENTS, 500), options.pick(POINTS, 100)
    mean, log_variance = (t.to(options.device) for t in drawn(count, latent_dim, scale))
    ours, theirs = AggregatePosterior(mean, log_variance), mixture(mean, log_variance)
    generator = torch.Generator(options.device).manual_seed(1)
    z = ours.sample(points, generator=generator).float()
    few = z[:TIMED]
    variants = {
        "ours": timed(lambda: ours.log_prob(z), units=len(z), device=options.device),
        **{
            name: timed(in_chunks(theirs, few, size), units=len(few), device=options.device)
            for name, size in CHUNKS.items()
        },
    }
    exact = mixture(mean.double(), log_variance.double())
    difference = ours.log_prob(few) - in_chunks(exact, few.double(), 4)()
    facts = {
        "components": count,
        "points": points,
        "largest difference to a float64 mixture, nats": float(difference.abs().max()),
    }
    return Trial(f"L = {latent_dim}, scale {scale}", variants, "s a point", facts)


def drawn(components: int, latent_dim: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return standard normal means and scales between 0.5 and 1.5 times `scale`."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(components, latent_dim, generator=generator)
    deviation = scale * (0.5 + torch.rand(components, latent_dim, generator=generator))
    return mean, 2 * torch.log(deviation)


def mixture(mean: Tensor, log_variance: Tensor) -> MixtureSameFamily:
    parts = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    return MixtureSameFamily(Categorical(torch.ones_like(mean[:, 0])), parts)


def in_chunks(density: MixtureSameFamily, z: Tensor, size: int) -> Callable[[], Tensor]:
    return lambda: torch.cat([density.log_prob(part) for part in z.split(size)])


def memory(options: Options) -> Trial:
    """Return the peak memory of log q(z) in addition to components and points."""
    points = options.pick(POINTS, 100)
    variants = {
        f"N = {n}, L = {latent_dim}": processes.growth(
            prepared, options.pick(n, n // 100), latent_dim, points
        )
        for n, latent_dim in MEMORY
    }
    facts = {"points": points}
    return Trial("memory", variants, "MiB", facts, warm_up=False)


def prepared(components: int, latent_dim: int, points: int) -> Callable[[], Tensor]:
    mean, log_variance = drawn(components, latent_dim, 0.1)
    z = torch.randn(points, latent_dim)
    return lambda: AggregatePosterior(mean, log_variance).log_prob(z)


if __name__ == "__main__":
    import sys

    from benchmarks.__main__ import main

    main(["aggregate_posterior", *sys.argv[1:]])
