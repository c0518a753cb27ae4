"""Time the Frechet distance at 2048 dimensions beside pytorch-fid's own, on the same statistics.

    python benchmarks/frechet.py [--dimensions 2048] [--threads 1] [--repeats 3]

Both run in this process, turn by turn, with the same number of threads; medians are compared.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from threadpoolctl import threadpool_limits

from dpvae_cli import frechet_distance


def random_statistics(generator, dimensions):
    """Return mean and covariance of rectified, correlated features, like a network's."""
    mixing = generator.normal(size=(dimensions, dimensions))
    mixing *= 0.05 * np.exp(-np.arange(dimensions) / 300)
    rows = generator.normal(size=(3 * dimensions, dimensions)) @ mixing.T
    rows = np.maximum(rows + 0.3 * generator.normal(size=dimensions), 0)
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def timed(function, arguments):
    start = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = np.random.default_rng(0)
    pair = [random_statistics(generator, options.dimensions) for _ in range(2)]
    arguments = (*pair[0], *pair[1])
    ours, theirs = [], []
    with threadpool_limits(options.threads):
        for _ in range(options.repeats):
            value, seconds = timed(frechet_distance, arguments)
            expected, their_seconds = timed(calculate_frechet_distance, arguments)
            ours.append(seconds)
            theirs.append(their_seconds)
            print(
                f"dpvae {value:.9g} in {seconds:.2f} s   pytorch-fid {expected:.9g} in "
                f"{their_seconds:.2f} s   {their_seconds / seconds:.1f} times faster, "
                f"relative difference {abs(value / expected - 1):.1e}"
            )
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"median: {ratio:.1f} times faster with {options.threads} threads")


if __name__ == "__main__":
    main()
