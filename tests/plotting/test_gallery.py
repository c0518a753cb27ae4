import dataclasses
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import samples, style
from dpvae_cli.plotting.gallery import COLUMNS, Gallery, figure5
from tests.plotting.conftest import blob_images


def make_gallery(prior, seed=0, channels=1):
    images = {
        key: blob_images(9, channels, seed=seed + number) for number, key in enumerate(COLUMNS)
    }
    return Gallery(f"vae_mnist-{prior}", prior, images)


def test_figure5_draws_a_row_a_run(tmp_path):
    galleries = [make_gallery("standard_normal"), make_gallery("decoupled", seed=5, channels=3)]
    figure = figure5(galleries)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [*COLUMNS.values(), "", "", ""]
    expected = [gallery.arrays[key] for gallery in galleries for key in COLUMNS]
    for ax, images in zip(figure.axes, expected, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), samples.grid(images))
    names = [ax.get_ylabel() for ax in figure.axes[::3]]
    assert names == ["vae_mnist\nstandard normal", "vae_mnist\ndecoupled"]
    for path in style.save(figure, tmp_path / "figure5"):
        assert path.stat().st_size > 5_000


def test_figure5_refuses_nothing_and_different_shapes():
    with pytest.raises(UsageError, match="nothing to draw"):
        figure5([])
    points = [make_table("a", 2), make_table("b", 3)]
    with pytest.raises(UsageError, match="shapes 2 and 3"):
        figure5(points)


def make_table(label, *shape, seed=0):
    random = np.random.default_rng(seed)
    arrays = {key: random.normal(size=(50, *shape)) for key in (*COLUMNS, "data")}
    return Gallery(label, "decoupled", arrays)


def test_figure5_of_points_draws_each_kind_over_the_data_on_the_same_axes(tmp_path):
    galleries = [make_table("a", 2), make_table("b", 2, seed=1)]
    figure = figure5(galleries)
    axes = np.array(figure.axes).reshape(2, 3)
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes.flat}) == 1
    for row, gallery in zip(axes, galleries, strict=True):
        for ax, key in zip(row, COLUMNS, strict=True):
            data, drawn = (c.get_offsets() for c in ax.collections)
            np.testing.assert_array_equal(data, gallery.arrays["data"])
            np.testing.assert_array_equal(drawn, gallery.arrays[key])
    assert style.save(figure, tmp_path / "points.png")[0].stat().st_size > 5_000


@pytest.mark.parametrize(("shape", "panels"), [((1,), 1), ((5,), 5), ((4, 2), 6)])
def test_figure5_of_tables_draws_histograms_with_the_same_bins(shape, panels, tmp_path):
    figure = figure5([make_table("a", *shape), make_table("b", *shape, seed=1)])
    axes = np.array(figure.axes).reshape(2, panels)
    for one, other in axes.T:
        edges = [tuple(patch.get_data().edges) for ax in (one, other) for patch in ax.patches]
        assert len(edges) == 8, "data and three kinds of samples, twice"
        assert len(set(edges)) == 1
        assert one.get_xlim() == other.get_xlim()
        for patch in (*one.patches, *other.patches):
            values, edges, _ = patch.get_data()
            assert (values * np.diff(edges)).sum() == pytest.approx(1), "nothing is cut off"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:4] == ["data", *COLUMNS.values()]
    assert ("first 6 of 8 columns" in texts) == (shape == (4, 2))
    assert style.save(figure, tmp_path / "tables.png")[0].stat().st_size > 5_000


def test_figure5_takes_the_names_of_columns():
    named = dataclasses.replace(make_table("a", 2, 1), columns=["height", "$w"])
    assert [ax.get_title() for ax in figure5([named]).axes] == ["height", r"\$w"]


@pytest.mark.parametrize("side", [2, 8, 28, 64])
def test_groups_stand_apart_at_any_size_of_picture(side, tmp_path):
    """The gap between groups is wider than the one between images, and titles do not touch."""
    images = dict.fromkeys(COLUMNS, np.zeros((36, 1, side, side)))
    figure = figure5([Gallery("vae_mnist-decoupled", "decoupled", images)] * 2)
    style.save(figure, tmp_path / "figure5.png")
    boxes = [ax.get_window_extent() for ax in figure.axes]
    grid_pixels = 6 * (side + samples.GAP) - samples.GAP
    between_images = samples.GAP * boxes[0].width / grid_pixels
    across = [right.x0 - left.x1 for left, right in pairwise(boxes[:3])]
    down = [above.y0 - below.y1 for above, below in zip(boxes[:3], boxes[3:], strict=True)]
    assert min(across + down) > max(2.5 * between_images, 0.14 * figure.dpi)
    assert boxes[0].width > 0.2 * figure.bbox.width, "the images keep most of the page"
    canvas = FigureCanvasAgg(figure)
    titles = [ax.title.get_window_extent(canvas.get_renderer()) for ax in figure.axes[:3]]
    assert all(left.x1 < right.x0 for left, right in pairwise(titles))


def test_figure5_of_points_has_the_names_of_the_data():
    named = [replace(make_table(label, 2), columns=["height", "weight"]) for label in "ab"]
    axes = np.array(figure5(named).axes).reshape(2, 3)
    assert {ax.get_xlabel() for ax in axes[1]} == {"height"}
    assert {ax.get_ylabel() for ax in axes[:, 2]} == {"weight"}
