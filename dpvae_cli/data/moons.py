"""Two moons: two interleaved half circles with Gaussian noise (paper, Figures 1 and 3)."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dpvae_cli.data.base import DataSpec
from dpvae_cli.data.dataset import SPLITS, Dataset, DatasetSummary, Split, SplitName
from dpvae_cli.foundation.memory import check_fits_in_memory
from dpvae_cli.foundation.randomness import derive_seed
from dpvae_cli.foundation.shapes import Examples, PerExample

BYTES_A_POINT = 128
"""What drawing one takes."""
Count = Annotated[int, Field(ge=2, le=10_000_000)]


def distance_to_moons(x: Examples) -> PerExample:
    """Return the Euclidean distance of each point to the nearer of the two noiseless half circles.

    The upper moon is (cos t, sin t), the lower (1 - cos t, 1/2 - sin t), t in [0, pi].
    """
    upper = _distance_to_upper_half_circle(x)
    turned = x.new_tensor([1.0, 0.5]) - x
    return torch.minimum(upper, _distance_to_upper_half_circle(turned))


def _distance_to_upper_half_circle(x: Tensor) -> Tensor:
    to_arc = (torch.linalg.vector_norm(x, dim=-1) - 1).abs()
    ends = x.new_tensor([[1.0, 0.0], [-1.0, 0.0]])
    to_ends = torch.cdist(x, ends, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=-1)
    return torch.where(x[:, 1] >= 0, to_arc, to_ends)


@final
class Moons(DataSpec):
    """scikit-learn's two moons; each split is drawn separately from the section's seed."""

    knows_manifold: ClassVar[bool] = True
    may_have_labels: ClassVar[bool] = True

    kind: Literal["moons"] = "moons"
    train: Count = 10_000
    """Training points."""
    validation: Count = 2_000
    """Validation points."""
    test: Count = 2_000
    """Test points."""
    noise: Annotated[float, Field(ge=0)] = 0.05
    """Standard deviation of the noise around the half circles, whose radius is 1."""
    seed: int = 0
    """Seed of the points; apart from the recipe's seed, so that runs share their data."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (2,)."""
        return (2,)

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Return the numbers of points."""
        return DatasetSummary(
            {"train": self.train, "validation": self.validation, "test": self.test}
        )

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Draw the three splits; nothing is read."""
        points = self.train + self.validation + self.test
        check_fits_in_memory(f"data with {points:,} points", BYTES_A_POINT * points)

        def draw(name: SplitName) -> Split:
            seed = derive_seed(self.seed, "moons", name) % 2**32
            count: int = getattr(self, name)
            points, labels = draw_moons(
                count, noise=self.noise, generator=np.random.RandomState(seed)
            )
            return Split(torch.from_numpy(points).float(), torch.from_numpy(labels))

        return Dataset("moons", *map(draw, SPLITS), distance_to_manifold=distance_to_moons)


def draw_moons(
    count: int, *, noise: float, generator: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's moons bit for bit, without the seconds that it takes to import.

    A half of the points is on the upper moon, evenly spaced, the rest on the lower; they are
    shuffled before the noise is drawn.
    """
    upper, lower = (np.linspace(0, np.pi, n) for n in (count // 2, count - count // 2))
    x = np.concatenate([np.cos(upper), 1 - np.cos(lower)])
    y = np.concatenate([np.sin(upper), 1 - np.sin(lower) - 0.5])
    labels = np.repeat([0, 1], [len(upper), len(lower)])
    order = np.arange(count)
    generator.shuffle(order)
    points = np.stack([x, y], axis=1)[order]
    return points + generator.normal(scale=noise, size=points.shape), labels[order]
