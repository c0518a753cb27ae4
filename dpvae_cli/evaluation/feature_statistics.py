"""Mean and covariance of features, streamed: images come in batches and are not kept."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dpvae_cli.evaluation.features import Extractor
from dpvae_cli.foundation.shapes import Codes
from dpvae_cli.mathematics.frechet import RunningMoments

BATCH = 50
KEPT = 10_000


@final
@dataclass(frozen=True)
class FeatureStatistics:
    """What fid and kid need of a set of images.

    `rows` are the features of the first 10,000 images, for kid; None where only moments are known,
    as of a file of pytorch-fid's, which does not tell their `count` either.
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
    extractor: Extractor, batches: Iterable[Tensor], progress: Callable[[int], None]
) -> FeatureStatistics:
    """Extract the features of batches of any size; `progress` hears how many images are done.

    Raises:
        DpvaeError: the extractor cannot take the images, or there are fewer than two.
    """
    moments: RunningMoments | None = None
    kept: list[Tensor] = []
    for images in batches:
        rows = extractor(images)
        moments = RunningMoments(rows.shape[1]) if moments is None else moments
        kept.append(rows[: max(0, KEPT - moments.count)])
        moments.add(rows)
        progress(moments.count)
    assert moments is not None
    return FeatureStatistics(moments.mean, moments.covariance, moments.count, torch.cat(kept))
