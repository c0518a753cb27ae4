"""Low-posterior sampling, 10,000 out of 50,000, compared with the exact log q(z) of the pool."""

from collections.abc import Iterator

import torch

from benchmarks.aggregate_posterior import drawn
from benchmarks.measure import Options, Ratio, Trial, over, timed
from dpvae_cli import AggregatePosterior
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.model import build
from dpvae_cli.recipe import load_recipe
from dpvae_cli.sampling.samples import low_posterior, prior_samples

COMPONENTS, POOL, KEPT = 60_000, 50_000, 10_000
RATIOS = {
    "L = 2": (
        Ratio(
            "low-posterior sampling, 10,000 of 50,000, L = 2, over its log q(z)",
            over("ours", "log q(z) alone"),
            at_most=1.2,
        ),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial with the decoupled prior of the paper's MNIST model."""
    pool, kept = options.pick(POOL, 100), options.pick(KEPT, 20)
    components = [t.to(options.device) for t in drawn(options.pick(COMPONENTS, 500), 2, 0.1)]
    aggregate = AggregatePosterior(*components)
    recipe = load_recipe("vae_mnist")
    model = build(recipe, example_shape=(1, 28, 28)).to(options.device).eval()
    z = prior_samples(model, pool, generator=stream(0, "pool")).z

    def ours() -> torch.Tensor:
        generator = stream(0, "pool")
        return low_posterior(model, aggregate, kept, pool=pool, generator=generator).z

    variants = {
        "ours": timed(ours, device=options.device),
        "log q(z) alone": timed(lambda: aggregate.log_prob(z), device=options.device),
    }
    facts = {"components": len(aggregate), "pool": pool, "kept": kept}
    yield Trial("L = 2", variants, "s", facts)
