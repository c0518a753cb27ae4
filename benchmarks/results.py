"""Records of measurements: one file per day and kind of device, with all circumstances."""

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
    """Return the file for today's results on this kind of device."""
    kind = "gpu" if device.type == "cuda" else "cpu"
    return folder / f"{datetime.now(UTC):%Y-%m-%d}-{kind}{QUICK if quick else ''}.json"


def newest(folder: Path, kind: str) -> dict[str, Any] | None:
    """Return the newest results of `cpu` or `gpu`, without quick ones; None if there are none."""
    files = sorted(folder.glob(f"*-{kind}.json"))
    return json.loads(files[-1].read_text(encoding="utf-8")) if files else None


def start(options: Options) -> dict[str, Any]:
    """Return the metadata of a benchmark's entry."""
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
    """Write a benchmark's entry to the file, replacing an earlier one."""
    kept = json.loads(file.read_text(encoding="utf-8"))["benchmarks"] if file.exists() else {}
    write_json(file, {"schema": SCHEMA, "benchmarks": kept | {name: entry}})


def hardware(device: torch.device) -> dict[str, Any]:
    """Return a description of the hardware."""
    found = {"cpu": _processor(), "cores": _cores()}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cores() -> int:
    """Return the number of cores available to this process."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def line(ratio: dict[str, Any], *, quick: bool) -> str:
    """Return a ratio as a line of text: name, target, median, spread and verdict."""
    if ratio["median"] is None:
        return f"{ratio['what']:{WIDTH}} not measured: {ratio['absent']}"
    target = "" if ratio["target"] == "-" else ratio["target"]
    verdict = "" if quick else VERDICTS[ratio["met"]]
    return f"{ratio['what']:{WIDTH}} {target:15} {spread(ratio)} {verdict}".rstrip()


def spread(ratio: dict[str, Any]) -> str:
    """Return median, minimum and maximum over the rounds."""
    low, high = min(ratio["values"]), max(ratio["values"])
    unit = f" {ratio['unit']}" if ratio["unit"] else ""
    return f"{ratio['median']:.3g}{unit} ({low:.3g} .. {high:.3g})"
