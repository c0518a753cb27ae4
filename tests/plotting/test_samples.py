"""Image grids, point clouds and heat maps."""

import numpy as np
import pytest
from PIL import Image

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import samples, style
from tests.plotting.conftest import blob_images


def test_grid_places_images_row_by_row_with_white_gaps():
    images = np.arange(5)[:, None, None, None] / 10 * np.ones((5, 1, 4, 3))
    picture = samples.grid(images)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 4 + 2, 3 * 3 + 2 * 2, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = picture[row * 6 : row * 6 + 4, column * 5 : column * 5 + 3]
        assert (tile == round(25.5 * index)).all()
    assert (picture[4:6] == 255).all()
    assert (picture[:, 3:5] == 255).all()
    assert (picture[6:, 10:] == 255).all(), "the place of the missing sixth image is white"


def test_grid_keeps_colours_and_bytes_and_clips():
    images = np.array([-3.0, 0.5, 7.0]).reshape(1, 3, 1, 1)
    assert samples.grid(images).reshape(3).tolist() == [0, 128, 255]
    assert samples.grid(np.full((1, 1, 1, 1), np.nan)).max() == 0
    stored = np.array([7, 8, 9], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert samples.grid(stored).reshape(3).tolist() == [7, 8, 9]


def test_grid_takes_columns():
    assert samples.grid(blob_images(6), 6).shape == (28, 6 * 30 - 2, 3)


@pytest.mark.parametrize("shape", [(4, 2, 8, 8), (4, 8), (4, 8, 8)])
def test_grid_refuses_what_is_no_image(shape):
    with pytest.raises(UsageError, match="as images"):
        samples.grid(np.zeros(shape))


@pytest.mark.parametrize(("side", "factor"), [(1, 143), (8, 36), (28, 12), (64, 6), (400, 1)])
def test_save_grid_enlarges_by_whole_pixels_below_a_title(side, factor, tmp_path):
    images = blob_images(7, 3, size=side)
    path = samples.save_grid(images, tmp_path / "grid", title="a run: 7 prior samples")
    assert path.name == "grid.png"
    read = np.asarray(Image.open(path))
    expected = samples.grid(images)
    assert factor == max(1, -(-1_000 // expected.shape[1]))
    assert read.shape[1] == factor * expected.shape[1] >= 1_000
    strip, picture = np.split(read, [len(read) - factor * len(expected)])
    np.testing.assert_array_equal(picture, np.kron(expected, np.ones((factor, factor, 1), int)))
    assert (strip < 200).any(), "a title"
    plain = samples.save_grid(images, tmp_path / "plain")
    np.testing.assert_array_equal(np.asarray(Image.open(plain)), picture)


def test_a_column_of_images_is_not_enlarged_without_end(tmp_path):
    path = samples.save_grid(blob_images(100), tmp_path / "tall.png", columns=1)
    assert Image.open(path).size == (28, 2998)


def test_save_grid_refuses_other_formats(tmp_path):
    with pytest.raises(UsageError) as caught:
        samples.save_grid(blob_images(2), tmp_path / "grid.pdf")
    assert ".png" in str(caught.value.hint)


@pytest.mark.parametrize("with_reference", [True, False])
def test_scatter_draws_every_point(portraits, tmp_path, with_reference):
    arrays = portraits[2].arrays
    figure = samples.scatter(
        arrays["samples"],
        arrays["sample_log_density"],
        reference=arrays["train"] if with_reference else None,
    )
    clouds = figure.axes[0].collections
    assert len(clouds) == 1 + with_reference
    assert len(clouds[-1].get_offsets()) == len(arrays["samples"])
    densities = np.asarray(clouds[-1].get_array())
    assert (np.diff(densities) >= 0).all(), "the most probable points lie on top"
    for path in style.save(figure, tmp_path / "scatter"):
        assert path.stat().st_size > 5_000


def test_samples_over_the_same_data_have_the_same_axes():
    random = np.random.default_rng(0)
    data, near = random.uniform(-1, 1, size=(500, 2)), random.uniform(-1, 1, size=(40, 2))
    far = near.copy()
    far[:3] = [[9, 0], [0, -7], [5, 5]]
    axes = [samples.scatter(points, points[:, 0], reference=data).axes[0] for points in (near, far)]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [[], ["3 outside (×)"]]
    [crosses] = axes[1].lines
    assert (crosses.get_xdata()[0], crosses.get_ydata()[1]) == (
        axes[1].get_xlim()[1],
        axes[1].get_ylim()[0],
    )


@pytest.mark.parametrize("shape", [(1, 5), (30, 40), (300, 2, 5)])
def test_rows_draws_an_example_a_row(shape, tmp_path):
    vectors = np.random.default_rng(0).normal(size=shape)
    figure = samples.rows(vectors)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, vectors.reshape(shape[0], -1))
    assert style.save(figure, tmp_path / "rows.png")[0].stat().st_size > 2_000


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_save_each_writes_a_lossless_png_of_its_own_kind(channels, mode, tmp_path):
    images = np.random.default_rng(0).uniform(-0.2, 1.2, size=(3, channels, 5, 4))
    samples.save_each(images, tmp_path, start=7)
    names = ["000007.png", "000008.png", "000009.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name, expected in zip(names, np.rint(255 * images.clip(0, 1)), strict=True):
        with Image.open(tmp_path / name) as read:
            assert read.mode == mode
            pixels = np.asarray(read).reshape(5, 4, channels)
        np.testing.assert_array_equal(pixels, expected.transpose(1, 2, 0))


@pytest.mark.parametrize(("scale", "aspect"), [((1, 1), 1.0), ((1, 5), 1.0), ((1e5, 1e-3), "auto")])
def test_axes_of_different_units_are_not_forced_to_one_scale(scale, aspect):
    points = np.random.default_rng(0).standard_normal((200, 2)) * scale
    figure = samples.scatter(points, np.zeros(200), columns=("seconds", "volts"))
    ax = figure.axes[0]
    assert ax.get_aspect() == aspect
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("seconds", "volts")
    figure.draw_without_rendering()
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert top - bottom < 20 * scale[1]
    assert right - left < 20 * max(scale)


@pytest.mark.parametrize("place", [(0, 0), (3, -5), (1e8, -1e9)])
@pytest.mark.parametrize("reference", [False, True])
def test_scatter_of_points_that_are_all_alike(reference, place):
    points = np.tile(np.array(place, dtype=float), (7, 1))
    with np.errstate(all="raise"):
        figure = samples.scatter(points, np.zeros(7), reference=points if reference else None)
    ax = figure.axes[0]
    for (low, high), at in zip((ax.get_xlim(), ax.get_ylim()), points[0], strict=True):
        assert low < at < high
    assert np.isfinite(figure.get_size_inches()).all()
