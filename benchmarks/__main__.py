"""Run benchmarks, print one line per ratio, and store the values of every round.

    python -m benchmarks [NAME ...] [--rounds 5] [--threads N] [--device cpu|cuda] [--quick]

Results are written to benchmarks/results/<date>-<cpu or gpu>.json; a repeated benchmark replaces
its earlier entry. `--quick` only verifies that everything runs: its values are meaningless and
stored separately.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks import results
from benchmarks.measure import Options, play

NAMES = (
    "training",
    "mnist_column",
    "coupling",
    "aggregate_posterior",
    "frechet",
    "nll",
    "features",
    "low_posterior",
    "startup",
    "memory",
    "growth",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks named on the command line; by default all of them."""
    given = parsed(arguments)
    device = torch.device(given.device)
    options = Options(given.rounds, given.threads, device, given.quick)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # inherited by subprocesses
    torch.set_num_threads(given.threads)
    file = results.file_of_today(given.out, device, quick=given.quick)
    with threadpool_limits(given.threads):
        for name in given.names or NAMES:
            module = import_module(f"benchmarks.{name}")
            if device.type in devices(module):
                results.keep(file, name, measured(name, module, options))
            else:
                print(f"{name}: not on this device, which is {device}")
    print(f"kept in {file}{', sizes too small to mean anything' if given.quick else ''}")


def devices(module: ModuleType) -> tuple[str, ...]:
    """Return the kinds of device on which a benchmark runs."""
    return getattr(module, "DEVICES", ("cpu", "cuda"))


def measured(name: str, module: ModuleType, options: Options) -> dict[str, Any]:
    """Run one benchmark, print its ratios, and return its record."""
    entry = results.start(options)
    for trial in module.trials(options):
        print(f"{name}: {trial.name} ...", file=sys.stderr)
        record = play(trial, module.RATIOS[trial.name], options.rounds)
        entry["trials"].append(record)
        for ratio in record["ratios"]:
            print(results.line(ratio, quick=options.quick), flush=True)
    return entry


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to verify that everything runs"
    )
    parser.add_argument("--out", type=Path, default=results.FOLDER, metavar="DIR")
    given = parser.parse_args(arguments)
    if wrong := set(given.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(wrong)}; there are {', '.join(NAMES)}")
    if min(given.rounds, given.threads) < 1:
        parser.error("--rounds and --threads are at least 1")
    return given


if __name__ == "__main__":
    main()
