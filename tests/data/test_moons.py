"""Two moons: sizes, repeatability, and the distance to their curve."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import make_moons
from torch import Tensor
from torch.testing import assert_close

from dpvae_cli.data import Moons
from dpvae_cli.data.moons import distance_to_moons, draw_moons
from tests.mathematics.random_models import normal


def distance_to_polyline(x: Tensor, *, points: int = 4001) -> Tensor:
    """Return the distance to both half circles as polylines with short edges, by brute force."""
    t = torch.linspace(0, math.pi, points, dtype=torch.float64)
    upper = torch.stack([t.cos(), t.sin()], dim=1)
    lower = torch.stack([1 - t.cos(), 0.5 - t.sin()], dim=1)
    distances = []
    for curve in (upper, lower):
        start, edge = curve[:-1], curve[1:] - curve[:-1]
        along = ((x.unsqueeze(1) - start) * edge).sum(dim=-1) / edge.square().sum(dim=-1)
        nearest = start + along.clamp(0, 1).unsqueeze(-1) * edge
        distances.append((x.unsqueeze(1) - nearest).norm(dim=-1).amin(dim=1))
    return torch.minimum(*distances)


def test_distance_equals_brute_force():
    x = torch.cat([2 * normal(150, 2), Moons(train=50, noise=0.1).load().train.examples().double()])
    assert_close(distance_to_moons(x), distance_to_polyline(x), rtol=1e-5, atol=1e-6)


def test_distance_at_places_one_can_work_out():
    x = torch.tensor(
        [[0.0, 0.0], [0.0, 3.0], [3.0, 0.5], [-1.0, -2.0], [1.0, -3.5], [0.0, 1.0], [1.0, -0.5]],
        dtype=torch.float64,
    )
    expected = torch.tensor([1.25**0.5 - 1, 2, 1, 2, 3, 0, 0], dtype=torch.float64)
    assert_close(distance_to_moons(x), expected)


def test_points_without_noise_lie_on_the_curve():
    data = Moons(train=101, noise=0.0).load()
    assert distance_to_moons(data.train.examples().double()).max() < 1e-6


def test_noise_has_the_asked_deviation():
    """Noise across a curve of small curvature: the mean absolute value is sigma sqrt(2 / pi)."""
    data = Moons(train=4000, noise=0.02).load()
    mean = distance_to_moons(data.train.examples()).mean().item()
    assert mean == pytest.approx(0.02 * math.sqrt(2 / math.pi), rel=0.05)


def test_sizes_and_kinds():
    data = Moons(train=31, validation=12, test=7).load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [31, 12, 7]
    assert data.example_shape == Moons().example_shape() == (2,)
    assert data.train.examples().dtype == torch.float32
    assert data.train.labels.bincount().tolist() == [15, 16]
    assert data.distance_to_manifold is distance_to_moons
    assert not data.eight_bit


def test_the_same_points_at_every_load():
    spec = Moons(train=20, validation=20, test=20)
    first, second = spec.load(), spec.load()
    assert torch.equal(first.train.examples(), second.train.examples())
    assert first.fingerprint() == second.fingerprint()
    other = spec.model_copy(update={"seed": 1}).load()
    assert not torch.equal(first.train.examples(), other.train.examples())
    assert first.fingerprint() != other.fingerprint()


def test_splits_are_different_points():
    data = Moons(train=20, validation=20, test=20).load()
    points = torch.cat([s.examples() for s in (data.train, data.validation, data.test)])
    assert len(points.unique(dim=0)) == 60


@pytest.mark.parametrize("fields", [{"train": 1}, {"noise": -0.1}, {"noise": "0.1"}], ids=str)
def test_refused_fields(fields):
    with pytest.raises(ValidationError):
        Moons(**fields)


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.3])
@pytest.mark.parametrize("count", [2, 3, 10, 4_001])
def test_points_are_scikit_learns_to_the_bit(count, noise):
    theirs, their_labels = make_moons(count, noise=noise, random_state=count + 7)
    ours, labels = draw_moons(count, noise=noise, generator=np.random.RandomState(count + 7))
    assert np.array_equal(ours, theirs)
    assert np.array_equal(labels, their_labels)
