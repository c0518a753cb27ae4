"""Mean and covariance of features, streamed: images come in batches and are not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dpvae_cli.evaluation.features import Extractor
from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
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
    extractor: Extractor,
    images_of: Callable[[Tensor], Tensor],
    sources: Tensor,
    progress: Callable[[int], None],
    *,
    batch: int = BATCH,
    group: ProcessGroup = SINGLE_PROCESS,
) -> FeatureStatistics:
    """Extract features, batch by batch, each process of a group a batch at a time.

    Args:
        extractor: the network.
        images_of: makes images of a batch of sources.
        sources: a row for each image: codes to decode, positions in a data set.
        progress: hears how many images are done.
        batch: images that a process extracts in one go.
        group: processes that share the work; each gets the statistics of all images.

    Raises:
        DpvaeError: the extractor cannot take the images, or there are fewer than two.
    """
    moments: RunningMoments | None = None
    kept: list[Tensor] = []
    for some in sources.split(batch * group.world_size):
        rows = group.map_sharded(lambda share: extractor(images_of(share)), some)
        moments = RunningMoments(rows.shape[1]) if moments is None else moments
        kept.append(rows[: max(0, KEPT - moments.count)])
        moments.add(rows)
        progress(moments.count)
    assert moments is not None
    return FeatureStatistics(moments.mean, moments.covariance, moments.count, torch.cat(kept))
