"""Write finished runs into dpvae_cli/models, as packaged models.

    python -m benchmarks.package_models runs/vae_mnist-standard_normal-seed0 ...

A model is called after its recipe and its prior. All of them together may take 6 MB in the wheel.
"""

import argparse
from pathlib import Path

from dpvae_cli.runs.checkpoint import read_checkpoint
from dpvae_cli.runs.loaded_run import load_run
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.packaged import MODELS, SUFFIX, package


def main() -> None:
    """Write each run's model and print its path and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    for path in options.runs:
        run = load_run(path, data_root=options.data_root)
        codes = run.encoded.aggregate_posterior()
        log = MetricsLog.read(run.folder.metrics_log)
        packaged = package(read_checkpoint(run.path), codes.mean, codes.log_variance, log=log)
        file = MODELS / f"{run.recipe.name}-{run.recipe.prior_name}{SUFFIX}"
        packaged.write(file)
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
