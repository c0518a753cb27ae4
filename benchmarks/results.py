"""What is kept of a measurement: a file a day and kind of device, with all that led to it."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Options
from dpvae_cli.foundation.files import write_json

FOLDER = Path(__file__).parent / "results"
SCHEMA = 1
PACKAGES = ("dpvae-cli", "torch", "numpy", "scipy", "pytorch-fid", "pythae", "zuko")
QUICK = "-quick"
WIDTH = 74
VERDICTS = {True: "met", False: "missed", None: ""}


def file_of_today(folder: Path, device: torch.device, *, quick: bool) -> Path:
    """Return the file that today's results of this kind of device go to."""
    kind = "gpu" if device.type == "cuda" else "cpu"
    return folder / f"{datetime.now(UTC):%Y-%m-%d}-{kind}{QUICK if quick else ''}.json"


def newest(folder: Path, kind: str) -> dict[str, Any] | None:
    """Return the newest results of `cpu` or `gpu`, quick ones apart; None where there are none."""
    files = sorted(folder.glob(f"*-{kind}.json"))
    return json.loads(files[-1].read_text(encoding="utf-8")) if files else None


def start(options: Options) -> dict[str, Any]:
    """Return what a benchmark's entry says before anything is measured."""
    return {
        "began": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "hardware": hardware(options.device),
        "versions": versions(),
        "rounds": options.rounds,
        "threads": options.threads,
        "load_before": os.getloadavg()[0],
        "quick": options.quick,
        "trials": [],
    }


def keep(file: Path, name: str, entry: dict[str, Any]) -> None:
    """Put a benchmark's entry into the file, in the place of one of its name."""
    kept = json.loads(file.read_text(encoding="utf-8"))["benchmarks"] if file.exists() else {}
    write_json(file, {"schema": SCHEMA, "benchmarks": kept | {name: entry}})


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the figures were measured on."""
    found = {"cpu": _processor(), "cores": _cores()}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def line(ratio: dict[str, Any], *, quick: bool) -> str:
    """Return a ratio as the command prints it: what, target, median, spread and verdict."""
    if ratio["median"] is None:
        return f"{ratio['what']:{WIDTH}} not measured: {ratio['absent']}"
    target = "" if ratio["target"] == "-" else ratio["target"]
    verdict = "" if quick else VERDICTS[ratio["met"]]
    return f"{ratio['what']:{WIDTH}} {target:15} {spread(ratio)} {verdict}".rstrip()


def spread(ratio: dict[str, Any]) -> str:
    """Return median, smallest and largest value of the rounds."""
    low, high = min(ratio["values"]), max(ratio["values"])
    unit = f" {ratio['unit']}" if ratio["unit"] else ""
    return f"{ratio['median']:.3g}{unit} ({low:.3g} .. {high:.3g})"
