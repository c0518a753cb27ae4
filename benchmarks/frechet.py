"""The Frechet distance in 2048 dimensions, compared with pytorch-fid on the same statistics.

python -m benchmarks.frechet [--rounds 5]
"""

from collections.abc import Iterator

import numpy as np
from pytorch_fid.fid_score import calculate_frechet_distance

from benchmarks.measure import Options, Ratio, Trial, over, timed
from dpvae_cli import frechet_distance

DEVICES = ("cpu",)
DIMENSIONS = 2048
RATIOS = {
    "2048 dimensions": (
        Ratio(
            "Frechet distance, 2048 dimensions: pytorch-fid over ours",
            over("pytorch-fid", "ours"),
            at_least=8,
        ),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial on the distance of two sets of statistics."""
    dimensions = options.pick(DIMENSIONS, 64)
    generator = np.random.default_rng(0)
    pair = [random_statistics(generator, dimensions) for _ in range(2)]
    arguments = (*pair[0], *pair[1])
    variants = {
        "ours": timed(lambda: frechet_distance(*arguments), device=options.device),
        "pytorch-fid": timed(lambda: calculate_frechet_distance(*arguments), device=options.device),
    }
    ratio = frechet_distance(*arguments) / calculate_frechet_distance(*arguments)
    facts = {"dimensions": dimensions, "relative difference": abs(float(ratio) - 1)}
    yield Trial("2048 dimensions", variants, "s", facts)


def random_statistics(generator: np.random.Generator, dimensions: int):
    """Return mean and covariance of rectified, correlated features."""
    mixing = generator.normal(size=(dimensions, dimensions))
    mixing *= 0.05 * np.exp(-np.arange(dimensions) / 300)
    rows = generator.normal(size=(3 * dimensions, dimensions)) @ mixing.T
    rows = np.maximum(rows + 0.3 * generator.normal(size=dimensions), 0)
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


if __name__ == "__main__":
    import sys

    from benchmarks.__main__ import main

    main(["frechet", *sys.argv[1:]])
