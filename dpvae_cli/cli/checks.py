"""Checks of the installation: versions, devices, folders, data and weights."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dpvae_cli.data import locations
from dpvae_cli.data.dsprites import FILE as DSPRITES
from dpvae_cli.data.mnist import Mnist
from dpvae_cli.evaluation import inception
from dpvae_cli.foundation import devices
from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pydantic",
    "matplotlib",
    "pytorch-fid",
)

EXTRAS = {
    "onnx": "export",
    "onnxscript": "export",
    "torch-fidelity": "fidelity",
    "ray": "ray",
    "submitit": "slurm",
    "tensorboard": "tensorboard",
    "mlflow-skinny": "mlflow",
    "wandb": "wandb",
}
"""The extra of pyproject.toml that brings each optional package."""

CheckResult = tuple[str, str, str]


def checks(data_root: Path | None = None) -> list[CheckResult]:
    """Return (what, where or which, state) for everything that is checked."""
    packages = [_package(name, "ok", "missing: install dpvae again") for name in PACKAGES]
    packages += [
        _package(name, f"ok (extra {extra})", f"optional: pip install 'dpvae-cli[{extra}]'")
        for name, extra in EXTRAS.items()
    ]
    source = f"${locations.VARIABLE}" if os.environ.get(locations.VARIABLE) else "user cache"
    source = "--data-root" if data_root is not None else source
    return [
        ("dpvae", __version__, "ok"),
        ("python", platform.python_version(), "ok"),
        *packages,
        ("devices", ", ".join(devices.available()), f"auto takes {devices.resolve().type}"),
        ("threads", str(torch.get_num_threads()), "ok"),
        _folder("data root", locations.data_root(data_root), source),
        _mnist(data_root),
        _files("binarized_mnist", "binarized_mnist_train.amat", data_root),
        _files("svhn", "train_32x32.mat", data_root),
        _files("celeba", "img_align_celeba", data_root),
        _files("dsprites", DSPRITES, data_root),
        _folder("cache", locations.cache_root(), f"${locations.CACHE_VARIABLE} or the user cache"),
        inception_weights(),
    ]


def _package(name: str, found: str, missing: str) -> CheckResult:
    try:
        return (name, version(name), found)
    except PackageNotFoundError:
        return (name, "-", missing)


def _folder(what: str, path: Path, source: str) -> CheckResult:
    state = "there" if path.is_dir() else "not there yet"
    return (what, str(path), f"{state} ({source})")


def _mnist(root: Path | None) -> CheckResult:
    places = " or ".join(
        str(p / "MNIST" / "raw") for p in locations.candidate_folders("mnist", root)
    )
    try:
        data = Mnist().load(root, download=False)
    except DpvaeError as error:
        return ("mnist", places, f"not usable: {error}")
    return (
        "mnist",
        places,
        f"{len(data.train) + len(data.validation):,} + {len(data.test):,} images",
    )


def _files(kind: str, needed: str, root: Path | None) -> CheckResult:
    """Return where the files of a kind are expected; reading them could take minutes."""
    places = [folder / needed for folder in locations.candidate_folders(kind, root)]
    found = next((place for place in places if place.exists()), None)
    return (kind, str(found or " or ".join(map(str, places))), "there" if found else "not there")


def inception_weights() -> CheckResult:
    """Return where the FID Inception weights are expected."""
    named = os.environ.get(inception.VARIABLE)
    path = Path(named) if named else inception.hub_file()
    source = f"${inception.VARIABLE}" if named else "torch's hub cache"
    return (
        "inception weights",
        str(path),
        f"{'there' if path.is_file() else 'not there'} ({source})",
    )
