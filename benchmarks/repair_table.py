"""The tables of docs/repair.md: a Pythae VAE before and after fitting a prior to its codes.

    python -m benchmarks.repair_table --folder runs/repair-moons
    python -m benchmarks.repair_table --folder runs/repair-mnist --data mnist --fid 768

Runs examples/pythae_model.py once per seed with one thread, unless its results exist, and prints
Markdown: means over seeds with standard errors. Other options are passed to the example.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.moons_table import entry

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
COLUMNS = {
    "sKL": ("skl", "value"),
    "KL[p, q]": ("skl", "details", "kl_prior_to_posterior", "value"),
    "KL[q, p]": ("skl", "details", "kl_posterior_to_prior", "value"),
    "leak 1 %": ("leak", "details", "quantile_values", 1),
    "leak 5 %": ("leak", "details", "quantile_values", 2),
    "leak 25 %": ("leak", "details", "quantile_values", 3),
    "manifold": ("manifold", "value"),
    "manifold_lp": ("manifold_lp", "value"),
    "its null": ("manifold_lp", "details", "null", "value"),
    "FID768": ("fid768", "value"),
    "FID768_lp": ("fid768_lp", "value"),
    "null of it": ("fid768_lp", "details", "null", "value"),
}


def results(folder: Path, seed: int, arguments: list[str]) -> dict:
    """Run the example, or read its results: by prior and metric."""
    out = folder / f"seed{seed}"
    if not (out / "results.json").is_file():
        example = [sys.executable, str(ROOT / "examples" / "pythae_model.py")]
        subprocess.run(
            [*example, "--seed", str(seed), "--out", str(out), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    found = json.loads((out / "results.json").read_text())
    return {prior: {each["metric"]: each for each in all_} for prior, all_ in found.items()}


def at(metrics: dict, place: tuple) -> float | None:
    """Return the value at a path."""
    value = metrics
    for key in place:
        value = value[key]
    return value


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    options, arguments = parser.parse_known_args()
    seeds = [results(options.folder, seed, arguments) for seed in SEEDS]
    there = {name: at_ for name, at_ in COLUMNS.items() if at_[0] in seeds[0]["standard_normal"]}
    print("| prior |", " | ".join(there), "|")
    print("|---|" + "---:|" * len(there))
    for prior in seeds[0]:
        cells = [entry([at(found[prior], place) for found in seeds]) for place in there.values()]
        print(f"| {prior} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
