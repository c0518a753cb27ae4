"""The table of docs/moons.md: six regularizers, both priors, three seeds, on two moons.

    python -m benchmarks.moons_table [--jobs 2] [--folder runs/moons-table]

Each cell runs `dpvae train` and `dpvae eval` in its own process with one thread; existing cells
are not trained again. Prints Markdown.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

REGULARIZERS = ("vae", "beta_h", "beta_b", "beta_tc", "factor", "info")
PRIORS = ("standard_normal", "decoupled")
SEEDS = (0, 1, 2)
QUANTILES = (0.001, 0.01, 0.05, 0.25)
COLUMNS = {
    "sKL": lambda metrics: metrics["skl"]["value"],
    "manifold": lambda metrics: metrics["manifold"]["value"],
    "manifold_lp": lambda metrics: metrics["manifold_lp"]["value"],
    "its null": lambda metrics: metrics["manifold_lp"]["details"]["null"]["value"],
    **{
        f"leak {100 * q:g} %": lambda metrics, i=i: metrics["leak"]["details"]["quantile_values"][i]
        for i, q in enumerate(QUANTILES)
    },
    "ELBO": lambda metrics: metrics["elbo"],
}


def dpvae(*arguments: str) -> None:
    """Run a command with one thread."""
    subprocess.run(
        [sys.executable, "-m", "dpvae_cli", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def cell(folder: Path, regularizer: str, prior: str, seed: int) -> dict:
    """Train and evaluate one cell, or read its results; return metrics by name."""
    run = folder / f"{regularizer}_moons-{prior}-seed{seed}"
    if not (run / "metrics.json").is_file():
        where = ("--run-dir", str(run), "--quiet")
        resume = ("--resume",) if run.is_dir() else ()
        dpvae("train", f"{regularizer}_moons", f"prior={prior}", f"seed={seed}", *where, *resume)
        dpvae("eval", str(run), "--metrics", "skl,leak,manifold,manifold_lp", "--quiet")
    metrics = {r["metric"]: r for r in json.loads((run / "metrics.json").read_text())["results"]}
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "validation"][-1]
    return metrics | {"elbo": last["elbo"]}


def entry(values: list[float | None]) -> str:
    """Return mean +- standard error over seeds; a dash if a seed has no value."""
    if None in values:
        return "-"
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    digits = max(0, min(4, 1 - math.floor(math.log10(error)))) if error > 0 else 3
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/moons-table"))
    options = parser.parse_args()
    places = list(product(REGULARIZERS, PRIORS, SEEDS))
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(places, pool.map(lambda p: cell(options.folder, *p), places), strict=True))
    print("| recipe | prior |", " | ".join(COLUMNS), "|")
    print("|---|---|" + "---:|" * len(COLUMNS))
    for regularizer, prior in product(REGULARIZERS, PRIORS):
        cells = [found[regularizer, prior, seed] for seed in SEEDS]
        entries = [entry([column(metrics) for metrics in cells]) for column in COLUMNS.values()]
        print(f"| `{regularizer}_moons` | {prior} |", " | ".join(entries), "|")


if __name__ == "__main__":
    main()
