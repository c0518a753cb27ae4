"""The statistics that samples are compared with: of training images, cached, or from a file."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dpvae_cli.data import Dataset
from dpvae_cli.data.locations import cache_root
from dpvae_cli.data.units import Units
from dpvae_cli.evaluation.feature_statistics import FeatureStatistics, feature_statistics
from dpvae_cli.evaluation.features import Extractor
from dpvae_cli.foundation.array_files import read_npz
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from dpvae_cli.foundation.files import write_npz
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Examples, Indices

VERSION = 1
"""Goes up when the same images would give other features."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


def of_training_images(
    dataset: Dataset,
    extractor: Extractor,
    count: int | None,
    progress: Callable[[int, int], None],
    *,
    group: ProcessGroup = SINGLE_PROCESS,
) -> FeatureStatistics:
    """Return the statistics of `count` training images (None: all), from the cache if it has them.

    A part is drawn at random once and for all, without augmentation.

    Raises:
        DpvaeError: nothing says which values of the training data are black and white.
    """
    count = len(dataset.train) if count is None else min(count, len(dataset.train))
    path = cache_file(dataset, extractor, count)
    cached = _cached(path)
    is_there = group.all_true(cached is not None)
    if cached is not None and is_there:
        return cached
    check_pixels(dataset.units)
    order = torch.randperm(len(dataset.train), generator=stream(0, "reference images"))[:count]
    found = feature_statistics(
        extractor,
        lambda index: _images(dataset, index),
        order,
        lambda done: progress(done, count),
        group=group,
    )
    if group.is_main_process:
        _cache(path, found)
    return found


def cache_file(dataset: Dataset, extractor: Extractor, count: int) -> Path:
    """Return where the user's cache has the statistics of these images under this extractor."""
    key = (VERSION, dataset.fingerprint(), "train", count, extractor.digest, extractor.dimensions)
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    return cache_root() / "features" / f"{dataset.name}-{name}.npz"


def _images(dataset: Dataset, index: Indices) -> Examples:
    return unit_interval(dataset.units, dataset.train.examples(index))


def check_pixels(units: Units) -> None:
    """Refuse data whose values do not say what is black and what is white.

    Raises:
        DpvaeError: they do not.
    """
    if not units.is_image_range:
        low, high = units.pixel_range
        raise DpvaeError(
            f"the training data has values from {low:g} to {high:g}: features are of images in "
            "[0, 1], [-0.5, 0.5], [-1, 1] or [0, 255]",
            hint="Give 8-bit images (uint8), or scale them to [0, 1].",
        )


def unit_interval(units: Units, images: Examples) -> Examples:
    """Return images as a model sees them with black as 0 and white as 1."""
    return units.to_unit_interval(units.inverse_transform(images))


def _cached(path: Path) -> FeatureStatistics | None:
    try:
        return _of_arrays(read_npz(path))
    except UNREADABLE:
        return None


def _cache(path: Path, found: FeatureStatistics) -> None:
    try:
        write(path, found)
    except UsageError:
        return  # a cache that cannot be written to costs time, not the result


def write(path: Path, found: FeatureStatistics) -> None:
    """Write statistics to an .npz that pytorch-fid reads (`mu`, `sigma`), with `rows` for kid.

    Raises:
        UsageError: the file cannot be written.
    """
    arrays = {"mu": found.mean.numpy(), "sigma": found.covariance.numpy()}
    if found.count is not None:
        arrays["count"] = np.array(found.count)
    if found.rows is not None:
        arrays["rows"] = found.rows.numpy()
    write_npz(path, arrays)


def read(path: Path) -> FeatureStatistics:
    """Read statistics from pytorch-fid's .npz or one of `write`; nothing in it can execute.

    Raises:
        MissingError: the file is not there or holds something else.
    """
    try:
        return _of_arrays(read_npz(path))
    except UNREADABLE as error:
        raise MissingError(
            f"{path} cannot be read as feature statistics: {error}",
            hint="An .npz with mu and sigma, as pytorch-fid --save-stats or --save-reference "
            "write it.",
        ) from error


def _of_arrays(arrays: dict[str, np.ndarray]) -> FeatureStatistics:
    mean, covariance = (torch.from_numpy(arrays[name]).double() for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}")
    rows = torch.from_numpy(arrays["rows"]) if "rows" in arrays else None
    if rows is not None and rows.shape[1:] != mean.shape:
        raise ValueError(f"rows {tuple(rows.shape)} and mu {tuple(mean.shape)}")
    count = int(arrays["count"]) if "count" in arrays else None
    return FeatureStatistics(mean, covariance, count, rows)
