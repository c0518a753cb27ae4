"""The table of units in docs/priors.md: priors fitted to a ring of codes in several units.

    python -m benchmarks.units_table --priors decoupled spline mixture full

3,000 codes from eight Gaussians with standard deviation 0.2 on a ring of radius 2, multiplied or
shifted; KL(truth, fit) in nats on 20,000 new codes, with the defaults of dpvae fit-prior.
"""

import argparse
import math

import torch
from torch import Tensor

import dpvae_cli as dpvae

CLUSTERS, RADIUS, DEVIATION = 8, 2.0, 0.2
UNITS = {"times 1": (1, 0), "times 10": (10, 0), "times 30": (30, 0), "times 0.1": (0.1, 0)}
UNITS["plus 50"] = (1, 50)
FULL = dpvae.Mixture(covariance="full")


def centres() -> Tensor:
    """Return the centres of the clusters."""
    angle = torch.arange(CLUSTERS) * 2 * math.pi / CLUSTERS
    return RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring(count: int, generator: torch.Generator) -> Tensor:
    """Draw codes."""
    chosen = centres()[torch.randint(CLUSTERS, (count,), generator=generator)]
    return chosen + DEVIATION * torch.randn(count, 2, generator=generator)


def log_density(z: Tensor) -> Tensor:
    """Return the true log-density."""
    squared = ((z[:, None] - centres()) / DEVIATION).square().sum(dim=-1)
    constant = math.log(CLUSTERS) + math.log(2 * math.pi) + 2 * math.log(DEVIATION)
    return torch.logsumexp(-0.5 * squared, dim=1) - constant


def main() -> None:
    """Print a Markdown table, one line per prior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--priors", nargs="+", default=["decoupled", "spline", "mixture", "full"])
    asked = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    codes, fresh = ring(3_000, generator), ring(20_000, generator)
    truth = log_density(fresh)
    print("| prior |", " | ".join(UNITS), "|")
    print("|---|" + "---:|" * len(UNITS))
    for prior in asked.priors:
        cells = []
        for scale, offset in UNITS.values():
            spec = FULL if prior == "full" else prior
            fitted = dpvae.fit_prior(scale * codes + offset, None, spec)
            log_p = fitted.log_prob(scale * fresh + offset) + 2 * math.log(scale)
            cells.append(f"{float((truth - log_p).mean()):.3f}")
        print(f"| {prior} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
