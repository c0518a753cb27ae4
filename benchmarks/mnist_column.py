"""Training time of Table 1's MNIST column on a GPU: steps of its twelve recipes.

Only the steps are timed, not logging, validation and metrics.
"""

from collections.abc import Iterator
from itertools import product

from benchmarks import stand_ins
from benchmarks.measure import Options, Ratio, Trial
from benchmarks.training import ours
from dpvae_cli.recipe import load_recipe

DEVICES = ("cuda",)
REGULARIZERS = ("vae", "beta_h", "beta_b", "beta_tc", "factor", "info")
PRIORS = ("standard_normal", "decoupled")
ITERATIONS = 100_000
RATIOS = {
    "MNIST": (
        Ratio(
            "100,000 MNIST iterations of Factor-dpVAE",
            lambda figures: ITERATIONS * figures["factor, decoupled"] / 60,
            at_most=3,
            unit="min",
        ),
        Ratio(
            "Table 1's MNIST column: twelve times 100,000 iterations",
            lambda figures: ITERATIONS * sum(figures.values()) / 3600,
            at_most=1,
            unit="h",
        ),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial for steps of every regularizer with both priors."""
    data, steps = stand_ins.mnist(options.pick(stand_ins.MNIST, 500)), options.pick(300, 2)
    variants = {
        f"{regularizer}, {prior}": ours(
            load_recipe(f"{regularizer}_mnist", [f"prior={prior}"]), data, steps, options
        )
        for regularizer, prior in product(REGULARIZERS, PRIORS)
    }
    yield Trial("MNIST", variants, "s a step", {"steps a turn": steps})
