"""False alarms and power of `dpvae diagnose` on planted codes.

    python -m benchmarks.diagnosis_power

Prints the tables of docs/diagnose.md as Markdown: false alarms for codes drawn from their prior,
the ratio of true to reported standard errors, and the fraction of planted holes and half spaces
that are detected. `--divide N` uses one Nth of the data sets.
"""

import argparse
import math
from collections.abc import Iterator, Sequence

import torch
from scipy import stats
from torch import Tensor, nn

from dpvae_cli.data import Dataset, Split
from dpvae_cli.diagnosis import Diagnosis, DiagnosisBudget, diagnose
from dpvae_cli.model import VAE
from dpvae_cli.priors import Decoupled, Mixture, Prior, Spline, StandardNormalPrior

SIZES, DIMENSIONS, HOLES = (200, 1_000, 5_000), (2, 6, 16), (0.03, 0.05, 0.08, 0.12)
HALF = 0.5
CASES = tuple((latent_dim, n) for latent_dim in DIMENSIONS[:2] for n in SIZES)
Cases = Sequence[tuple[int, int]]
"""Dimensions and numbers of codes."""
KINDS = ("standard_normal", "decoupled", "mixture", "spline")
SAMPLES, SPLITS = 2_000, 1
SEEDS, RATIO_SEEDS, POWER_SEEDS = 9, 80, 16
NARROW = 0.02
"""Standard deviation of posteriors that hardly changes the density of a flow's samples."""
DEVIATION = {2: 0.1, 6: 0.3, 16: 0.5}
"""Standard deviation of posteriors by number of dimensions, in units of the prior."""


class Echo(nn.Module):
    """An encoder that returns its input as the mean, with a fixed standard deviation."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(2 * math.log(deviation)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance."""
        return x, self.log_variance.expand_as(x)


def diagnosed(
    prior: Prior, means: Tensor, held_out: Tensor, deviation: float, *, seed: int
) -> Diagnosis:
    """Diagnose a model with the given prior and the given means of codes."""
    latent_dim = means.shape[1]
    model = VAE(
        encoder=Echo(deviation),
        decoder=nn.Linear(latent_dim, latent_dim),
        likelihood="gaussian",
        prior=prior,
        example_shape=(latent_dim,),
    )
    train, other = Split(means.float()), Split(held_out.float())
    budget = DiagnosisBudget(splits=SPLITS, samples=SAMPLES, tried={})
    return diagnose(
        model,
        Dataset("planted", train=train, validation=other, test=other),
        budget=budget,
        seed=seed,
    )


@torch.no_grad()
def healthy(kind: str, latent_dim: int, n: int, *, seed: int) -> Diagnosis:
    """Diagnose n codes drawn from the prior, with a fifth as many held-out codes."""
    torch.manual_seed(seed)
    count = n + n // 5
    deviation = NARROW
    if kind == "standard_normal":
        deviation = DEVIATION[latent_dim]
        prior: Prior = StandardNormalPrior(latent_dim)
        means = math.sqrt(1 - deviation**2) * torch.randn(count, latent_dim)
    elif kind == "mixture":
        prior = Mixture(components=5).build(latent_dim)
        prior.mean.mul_(2)
        prior.log_variance.uniform_(-2, 0)
        prior.logits.normal_()
        chosen = torch.multinomial(prior.logits.softmax(0), count, replacement=True)
        deviation = 0.3
        scale = (prior.log_variance[chosen].exp() - deviation**2).sqrt()
        means = prior.mean[chosen] + scale * torch.randn(count, latent_dim)
    else:
        spec = Decoupled(hidden=8) if kind == "decoupled" else Spline(hidden=8)
        prior = spec.build(latent_dim)
        for parameter in prior.parameters():
            parameter.mul_(1.5)
        means = prior.sample(count)
    return diagnosed(prior.eval(), means[:n], means[n:], deviation, seed=seed)


def with_hole(latent_dim: int, n: int, mass: float, *, seed: int) -> Diagnosis:
    """Diagnose codes of N(0, I) outside a ball around the origin; at 0.5 outside a half space."""
    torch.manual_seed(seed)
    deviation = DEVIATION[latent_dim]
    means = math.sqrt(1 - deviation**2) * torch.randn(3 * n, latent_dim)
    radius = stats.chi2.ppf(mass, latent_dim) ** 0.5
    kept = means[:, 0] > 0 if mass == HALF else means.norm(dim=1) > radius
    means = means[kept][: n + n // 5]
    prior = StandardNormalPrior(latent_dim)
    return diagnosed(prior, means[:n], means[n:], deviation, seed=seed)


def false_alarms(seeds: int, sizes: Sequence[int] = SIZES) -> Iterator[str]:
    """Yield a row for each kind of prior: which quantities were off, out of how many data sets."""
    yield "| prior | data sets | off in anything | what |"
    yield "|---|---:|---:|---|"
    total = alarms = 0
    for kind in KINDS:
        found = [
            healthy(kind, latent_dim, n, seed=seed)
            for latent_dim in DIMENSIONS
            for n in sizes
            for seed in range(seeds)
        ]
        off = [each for each in found if each.off]
        names = sorted({q.name for each in off for q in each.off})
        yield f"| `{kind}` | {len(found)} | {len(off)} | {', '.join(names)} |"
        total, alarms = total + len(found), alarms + len(off)
    yield f"| all | {total} | {alarms} ({100 * alarms / total:.1f} %) | |"


def ratios(seeds: int, cases: Cases = CASES) -> Iterator[str]:
    """Yield a row for each size: the deviation of value - null over data sets, relative to the
    reported standard error."""
    names = None
    for latent_dim, n in cases:
        found = [
            healthy("standard_normal", latent_dim, n, seed=1_000 + seed) for seed in range(seeds)
        ]
        if names is None:
            names = [each.name for each in found[0].quantities]
            yield "| L | codes | " + " | ".join(f"`{name}`" for name in names) + " |"
            yield "|---:|---:|" + "---:|" * len(names)
        excess, spread = (
            torch.tensor([[getattr(q, what) for q in each.quantities] for each in found])
            for what in ("excess", "spread")
        )
        ratio = excess.std(dim=0) / spread.square().mean(dim=0).sqrt()
        yield f"| {latent_dim} | {n:,} | " + " | ".join(f"{r:.2f}" for r in ratio) + " |"


def power(
    seeds: int, cases: Cases = CASES, masses: Sequence[float] = (*HOLES, HALF)
) -> Iterator[str]:
    """Yield a row for each size: the fraction of planted faults that are detected."""
    names = ["half space" if mass == HALF else f"hole of {100 * mass:.0f} %" for mass in masses]
    yield f"| L | codes | {' | '.join(names)} |"
    yield "|---:|---:|" + "---:|" * len(names)
    for latent_dim, n in cases:
        counts = [
            sum(bool(with_hole(latent_dim, n, mass, seed=seed).off) for seed in range(seeds))
            for mass in masses
        ]
        shares = " | ".join(f"{100 * count / seeds:.0f} %" for count in counts)
        yield f"| {latent_dim} | {n:,} | {shares} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--divide", type=int, default=1, help="divide the number of seeds by this")
    parser.add_argument("--only", choices=["alarms", "ratios", "power"])
    options = parser.parse_args()
    tables = {
        "alarms": (false_alarms, SEEDS),
        "ratios": (ratios, RATIO_SEEDS),
        "power": (power, POWER_SEEDS),
    }
    for name, (table, seeds) in tables.items():
        if options.only in (None, name):
            for row in table(max(2, seeds // options.divide)):
                print(row, flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
