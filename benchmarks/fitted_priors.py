"""The table of fitted priors in docs/priors.md: one VAE a seed, every prior fitted to its codes.

    python -m benchmarks.fitted_priors --recipe beta_h_moons

Times are of the process on one thread (CPU seconds), so other load on the machine matters little.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

import dpvae_cli as dpvae
from dpvae_cli.evaluation.kl import symmetric_kl
from dpvae_cli.fitting.fit import fit_model_prior
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.sampling.samples import TrainingEncodings

SEEDS, SAMPLES, REPEATS = (0, 1, 2), 2_000, 5
PRIORS = {
    "mixture": dpvae.Mixture(covariance="full"),
    "decoupled": dpvae.Decoupled(),
    "spline": dpvae.Spline(),
    "flow_matching": dpvae.FlowMatching(),
}


def measure(recipe: dpvae.Recipe, folder: Path) -> dict[str, list[float]]:
    """Return held-out gain, sKL, seconds to fit and seconds for 1,000 samples of each prior."""
    data = recipe.data.load()
    model = dpvae.train(recipe, folder, dataset=data, device="cpu").eval()
    aggregate = TrainingEncodings(model, lambda: data).aggregate_posterior()
    rows = {}
    for name, spec in PRIORS.items():
        start = time.process_time()
        fitted = fit_model_prior(model, aggregate, spec, fitting=recipe.fitting, seed=recipe.seed)
        seconds = time.process_time() - start
        repaired = model.with_prior(fitted.prior).eval()
        skl = symmetric_kl(
            repaired, aggregate, samples=SAMPLES, generator=stream(recipe.seed, "skl")
        )
        start = time.process_time()
        for _ in range(REPEATS):
            fitted.sample(1_000)
        rows[name] = [
            fitted.record.gain.value,
            skl.value,
            seconds,
            (time.process_time() - start) / REPEATS,
        ]
        print(recipe.seed, name, *(f"{value:.4g}" for value in rows[name]), flush=True)
    return rows


def main() -> None:
    """Print a Markdown table of means and standard deviations over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="beta_h_moons")
    parser.add_argument("--iterations", type=int, default=2_500)
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in SEEDS:
        overrides = ["prior=standard_normal", f"seed={seed}", *asked.overrides]
        overrides.append(f"training.iterations={asked.iterations}")
        recipe = dpvae.load_recipe(asked.recipe, overrides)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(recipe, Path(folder) / "run"))
    print("| prior | gain [nats] | sKL [nats] | seconds to fit | seconds for 1,000 samples |")
    print("|---|---:|---:|---:|---:|")
    for name in PRIORS:
        columns = torch.tensor([row[name] for row in rows], dtype=torch.float64).T
        cells = [f"{float(c.mean()):.3g} ± {float(c.std()):.2g}" for c in columns]
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
