"""Time exact log q(z) beside torch.distributions.MixtureSameFamily on the same components.

    python -m benchmarks.aggregate_posterior [--components 60000] [--points 10000] [--repeats 5]

Both run in this process, turn by turn, with the same number of threads; medians are compared. The
mixture is float32, as its users have it, gets its best of a few chunk sizes, and is timed on a few
of the points and scaled, because all of them would take minutes. Memory is ours alone, measured
in a process of its own as the growth of its resident size at the peak.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from dpvae_cli import AggregatePosterior

LATENT_DIMS = (2, 32)
SCALES = (0.3, 0.03)
CHUNKS = (1, 4, 16)
TIMED = 48


def drawn(components, latent_dim, scale):
    """Return means like a standard normal's, scales between half and one and a half of `scale`."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(components, latent_dim, generator=generator)
    deviation = scale * (0.5 + torch.rand(components, latent_dim, generator=generator))
    return mean, 2 * torch.log(deviation)


def mixture(mean, log_variance):
    parts = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mean), dtype=mean.dtype)), parts)


def timed(function):
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def compare(latent_dim, scale, options):
    """Print the median ratio, and the largest difference to the mixture in float64."""
    mean, log_variance = drawn(options.components, latent_dim, scale)
    ours, theirs = AggregatePosterior(mean, log_variance), mixture(mean, log_variance)
    z = ours.sample(options.points, generator=torch.Generator().manual_seed(1)).float()
    few = z[:TIMED]
    seconds, their_seconds = [], []
    for _ in range(options.repeats):
        value, spent = timed(lambda: ours.log_prob(z))
        seconds.append(spent)
        best = min(
            timed(lambda size=size: [theirs.log_prob(part) for part in few.split(size)])[1]
            for size in CHUNKS
        )
        their_seconds.append(best * options.points / TIMED)
    exact = mixture(mean.double(), log_variance.double())
    expected = torch.cat([exact.log_prob(part) for part in few.double().split(4)])
    ratios = [theirs / ours for ours, theirs in zip(seconds, their_seconds, strict=True)]
    print(
        f"L = {latent_dim:2d}, scale {scale}: {statistics.median(seconds):.2f} s, mixture "
        f"{statistics.median(their_seconds):.1f} s, {statistics.median(ratios):.1f} times faster "
        f"({min(ratios):.1f} to {max(ratios):.1f}), largest difference to float64 "
        f"{float((value[:TIMED] - expected).abs().max()):.1e} nats",
        flush=True,
    )


def resident(key):
    """Return this process's VmRSS or VmHWM in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def peak_growth(components, latent_dim, points, queue):
    """Put the MiB that log q(z) adds to this process's resident size at its peak into the queue."""
    mean, log_variance = drawn(components, latent_dim, 0.1)
    z = torch.randn(points, latent_dim)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    AggregatePosterior(mean, log_variance).log_prob(z)
    queue.put(resident("VmHWM") - before)


def report_memory(components, latent_dim, points):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(
        target=peak_growth, args=(components, latent_dim, points, queue), daemon=True
    )
    process.start()
    print(
        f"memory: N = {components}, L = {latent_dim}, {points} points: "
        f"{queue.get():.0f} MiB above the components themselves"
    )
    process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=60_000)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.points} points, {options.components} components, {options.threads} threads, "
        f"{options.repeats} rounds"
    )
    for latent_dim in LATENT_DIMS:
        for scale in SCALES:
            compare(latent_dim, scale, options)
    report_memory(options.components, 32, options.points)
    report_memory(162_770, 64, options.points)


if __name__ == "__main__":
    main()
