"""Mean and covariance of image features: streamed from batches, cached, and read from files."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from dpvae_cli.data import Dataset
from dpvae_cli.data.dataset import SplitName, Units
from dpvae_cli.data.locations import cache_root
from dpvae_cli.evaluation.features import Extractor
from dpvae_cli.foundation.array_files import read_npz, write_npz
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import DpvaeError, MissingError, UsageError
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.shapes import Codes, Examples
from dpvae_cli.mathematics.frechet import RunningMoments

BATCH = 50
MAX_ROWS = 10_000
"""Features that are kept one by one, for kid."""
CACHE_VERSION = 1
"""Goes up when the same images would give other features."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@final
@dataclass(frozen=True)
class FeatureStatistics:
    """What fid and kid need of a set of images.

    `rows` are the features of the first 10,000 images, for kid; None where only moments are known,
    as in files of pytorch-fid, which do not have their `count` either.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None
    rows: Codes | None

    @property
    def dimensions(self) -> int:
        """Return the number of features."""
        return len(self.mean)


def feature_statistics(
    extractor: Extractor,
    images_of: Callable[[Tensor], Tensor],
    sources: Tensor,
    progress: Callable[[int], None],
    *,
    batch: int = BATCH,
    group: ProcessGroup = SINGLE_PROCESS,
) -> FeatureStatistics:
    """Extract features, batch by batch, each process of a group a batch at a time.

    `sources` has a row for each image, a code to decode or a position in a data set, and
    `images_of` makes images of a batch of them. Each process gets the statistics of all images.

    Raises:
        DpvaeError: the extractor cannot take the images, or there are fewer than two.
    """
    moments: RunningMoments | None = None
    kept: list[Tensor] = []
    for some in sources.split(batch * group.world_size):
        rows = group.map_sharded(lambda share: extractor(images_of(share)), some)
        moments = RunningMoments(rows.shape[1]) if moments is None else moments
        kept.append(rows[: max(0, MAX_ROWS - moments.count)])
        moments.add(rows)
        progress(moments.count)
    assert moments is not None
    return FeatureStatistics(moments.mean, moments.covariance, moments.count, torch.cat(kept))


def of_images(
    dataset: Dataset,
    extractor: Extractor,
    count: int | None,
    progress: Callable[[int, int], None],
    *,
    split: SplitName = "train",
    group: ProcessGroup = SINGLE_PROCESS,
) -> FeatureStatistics:
    """Return the statistics of `count` images of a split (None: all), cached if it can be.

    A part is drawn at random once and for all, without augmentation.

    Raises:
        DpvaeError: nothing says which values of the training data are black and white.
    """
    images = dataset.split(split)
    count = len(images) if count is None else min(count, len(images))
    which = (CACHE_VERSION, dataset.fingerprint(), split, count)
    key = (*which, extractor.digest, extractor.dimensions)
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    path, cached = cache_root() / "features" / f"{dataset.name}-{name}.npz", None
    with suppress(*UNREADABLE):
        cached = _from_arrays(read_npz(path))
    if group.all_true(cached is not None) and cached is not None:
        return cached
    check_pixels(dataset.units)
    order = torch.randperm(len(images), generator=stream(0, "reference images"))[:count]
    statistics = feature_statistics(
        extractor,
        lambda index: unit_interval(dataset.units, images.examples(index)),
        order,
        lambda done: progress(done, count),
        group=group,
    )
    if group.is_main_process:
        with suppress(UsageError):  # a cache that cannot be written costs time, not the result
            write(path, statistics)
    return statistics


def check_pixels(units: Units) -> None:
    """Check that the range of the data's values says what is black and what is white."""
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
        return _from_arrays(read_npz(path))
    except UNREADABLE as error:
        raise MissingError(
            f"{path} cannot be read as feature statistics: {error}",
            hint="An .npz with mu and sigma, as pytorch-fid --save-stats or --save-reference "
            "write it.",
        ) from error


def _from_arrays(arrays: dict[str, np.ndarray]) -> FeatureStatistics:
    mean, covariance = (torch.from_numpy(arrays[name]).double() for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}")
    rows = torch.from_numpy(arrays["rows"]) if "rows" in arrays else None
    if rows is not None and rows.shape[1:] != mean.shape:
        raise ValueError(f"rows {tuple(rows.shape)} and mu {tuple(mean.shape)}")
    count = int(arrays["count"]) if "count" in arrays else None
    return FeatureStatistics(mean, covariance, count, rows)
