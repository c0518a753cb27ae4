"""Sprites: every combination once, drawn as their factors say, split the same everywhere."""

import hashlib
from itertools import product

import numpy as np
import pytest
import torch

from dpvae_cli.data import Sprites
from dpvae_cli.data.sprites import FACTORS, LARGEST, SMALLEST, factor_combinations, render_sprites
from tests.data.synthetic import draw

SPLITS = ("train", "validation", "test")
SMALL = Sprites(shape=3, scale=3, orientation=4, x=3, y=2)


def everything(spec):
    data = spec.load()
    parts = [data.split(name) for name in SPLITS]
    return torch.cat([p.stored for p in parts]), torch.cat([p.factors for p in parts])


def one(spec, *factors):
    """Return one sprite, `(64, 64)` of truth values."""
    return render_sprites(np.array([factors]), spec.sizes())[0, 0].numpy() > 0


def centre(image):
    """Return the mean (row, column) of the white pixels, in pixels from the upper left corner."""
    return np.argwhere(image).mean(axis=0) + 0.5


def test_every_combination_is_in_one_split():
    _, factors = everything(SMALL)
    wanted = list(product(range(3), range(3), range(4), range(3), range(2)))
    assert sorted(map(tuple, factors.tolist())) == wanted
    assert torch.equal(factor_combinations((3, 3, 4, 3, 2)), torch.tensor(wanted))
    data = SMALL.load()
    assert [len(data.split(name)) for name in SPLITS] == [172, 22, 22]
    assert all(torch.equal(data.split(n).labels, data.split(n).factors[:, 0]) for n in SPLITS)


def test_images_are_those_of_their_factors():
    images, factors = everything(SMALL)
    assert torch.equal(images, render_sprites(factors.numpy(), SMALL.sizes()))
    data = SMALL.load()
    assert data.example_shape == SMALL.example_shape() == (1, 64, 64)
    assert set(data.train.examples().unique().tolist()) == {0.0, 1.0}
    assert [factor.name for factor in data.factors] == list(SMALL.sizes())
    assert [factor.is_ordered for factor in FACTORS] == [False, True, True, True, True]


def test_no_two_of_the_default_combinations_look_alike():
    """Else a factor could not be told from the picture. Places are moves of these by pixels."""
    spec = Sprites(x=1, y=1)
    images, _ = everything(spec)
    assert len(images) == 3 * 6 * 10
    assert len({image.numpy().tobytes() for image in images}) == len(images)
    assert Sprites().sizes() | {"x": 1, "y": 1} == spec.sizes()


def test_the_deal_and_the_pixels_are_these_very_ones():
    """Written down once: every run, machine and version must draw them again."""
    images, factors = everything(SMALL)
    digest = hashlib.sha256(np.packbits(images.numpy() > 0).tobytes() + factors.numpy().tobytes())
    assert digest.hexdigest()[:16] == "15aba5901b21c2a4"


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_a_step_in_x_or_y_moves_the_picture_by_whole_pixels(shape):
    spec = Sprites(x=15, y=29)
    image = one(spec, shape, 5, 3, 4, 10)
    assert np.array_equal(one(spec, shape, 5, 3, 5, 10), np.roll(image, 2, axis=1))
    assert np.array_equal(one(spec, shape, 5, 3, 4, 11), np.roll(image, 1, axis=0))


def test_no_sprite_touches_the_edge():
    images, _ = everything(Sprites(x=2, y=2))
    frame = torch.ones(64, 64, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert not (images[:, 0] > 0)[:, frame].any()


@pytest.mark.parametrize(("shape", "area"), [(0, 4.0), (1, np.pi * 1.4 * 0.8)])
@pytest.mark.parametrize("scale", range(6))
def test_areas_are_those_of_the_shapes(shape, area, scale):
    spec = Sprites(x=1, y=1)
    radius = SMALLEST + (LARGEST - SMALLEST) * scale / 5
    for orientation in range(10):
        image = one(spec, shape, scale, orientation, 0, 0)
        # a side that runs along the grid may be a pixel off
        assert image.sum() == pytest.approx(area * radius**2, rel=1 / radius)
        assert centre(image) == pytest.approx((32, 32), abs=1e-9)


def test_a_heart_has_its_tip_below_and_its_notch_above():
    image = one(Sprites(x=1, y=1), 2, 5, 0, 0, 0)
    assert np.array_equal(image, image[:, ::-1])
    rows = np.flatnonzero(image.any(axis=1))
    assert image[rows[-1]].sum() <= 4
    upper = image[rows[0]]
    assert not upper[31:33].any()
    assert upper.any()


def test_orientation_turns_against_the_clock():
    spec = Sprites(orientation=2, x=1, y=1)  # 0 and 45 degrees
    row, column = np.argwhere(one(spec, 1, 5, 1, 0, 0))[0]
    assert (row < 32, column > 32) == (True, True), "an ellipse's upper end leans to the right"


def test_one_value_of_each_factor_but_one():
    data = Sprites(shape=1, scale=1, orientation=1, x=29, y=1).load()
    columns = [int(np.rint(centre(image[0].numpy() > 0)[1])) for image in data.train.stored]
    assert columns == [18 + int(x) for x in data.train.factors[:, 3]]


def test_a_picture_of_the_user_becomes_a_sprite(tmp_path):
    split = Sprites().load_image(draw(tmp_path / "a.png", 90, 70))
    assert split.stored.shape == (1, 1, 64, 64)
    assert set(split.examples().unique().tolist()) <= {0.0, 1.0}
