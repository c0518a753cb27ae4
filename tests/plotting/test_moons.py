"""Figures 1 and 3."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import moons, style


def axes_of(figure: Figure, rows: int, columns: int) -> np.ndarray:
    return np.array(figure.axes[: rows * columns]).reshape(rows, columns)


def marked(ax, facecolour: str) -> np.ndarray:
    """Return the points that wear the mark of this colour."""
    from matplotlib.colors import to_rgba

    found = [
        collection.get_offsets()
        for collection in ax.collections
        if isinstance(collection, PathCollection)
        and len(collection.get_facecolor())
        and tuple(collection.get_facecolor()[0]) == to_rgba(facecolour)
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_figure1_has_a_row_a_run_and_four_columns(portraits, count, tmp_path):
    figure = moons.figure1(portraits[:count])
    assert len(figure.axes) == 4 * count + 2  # and two colour bars
    for path in style.save(figure, tmp_path / "figure1"):
        assert path.stat().st_size > 10_000
    assert figure.get_figwidth() == style.DOUBLE_COLUMN


def test_flat_data_get_a_window_that_leaves_room_for_the_row_names(portraits):
    arrays = {
        key: array * [1, 0.4] if key in ("train", "samples", "high_x") else array
        for key, array in portraits[0].arrays.items()
    }
    left, right, bottom, top = moons.common_data_limits(
        [dataclasses.replace(portraits[0], arrays=arrays)]
    )
    assert top - bottom == pytest.approx(0.7 * (right - left))
    figure = moons.figure1([dataclasses.replace(portraits[0], arrays=arrays)] * 2)
    figure.draw_without_rendering()
    names = [ax.yaxis.label.get_window_extent() for ax in axes_of(figure, 2, 4)[:, 0]]
    assert all(above.y0 > below.y1 for above, below in pairwise(names))


def test_figure1_shares_the_axes_of_every_space(portraits):
    axes = axes_of(moons.figure1(portraits), 4, 4)
    for columns in ([0, 2], [1], [3]):
        limits = {(ax.get_xlim(), ax.get_ylim()) for ax in axes[:, columns].flat}
        assert len(limits) == 1
    assert all(ax.get_aspect() == 1 for ax in axes.flat)


def test_figure1_shows_the_low_posterior_fifth_in_all_three_spaces(portraits):
    arrays = portraits[2].arrays
    low = arrays["sample_log_q"] < np.quantile(arrays["sample_log_q"], 0.2)
    assert low.sum() == 240
    axes = axes_of(moons.figure1(portraits[2:3]), 1, 4)[0]
    for ax, key in zip(axes[1:], ("sample_z", "samples", "sample_z0"), strict=True):
        points = marked(ax, style.LOW)
        expected = arrays[key][low]
        np.testing.assert_array_equal(
            points[np.lexsort(points.T)], expected[np.lexsort(expected.T)]
        )
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        inside = ((points > [left, bottom]) & (points < [right, top])).all(axis=1)
        assert inside.mean() > 0.98, f"cut off in {key}"
    assert not len(marked(axes[0], style.LOW))


def test_figure1_draws_the_circles_of_the_standard_normal(portraits):
    ax = axes_of(moons.figure1(portraits[:1]), 1, 4)[0, 3]
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert [circle.radius for circle in circles] == [1, 2, 3]


def test_figure1_names_rows_in_the_colour_of_the_prior_and_all_axes(portraits):
    axes = axes_of(moons.figure1([portraits[0], portraits[2]]), 2, 4)
    assert axes[0, 0].yaxis.label.get_color() == style.VERMILLION
    assert axes[1, 0].yaxis.label.get_color() == style.BLUE
    assert axes[1, 0].get_ylabel() == "beta_h\ndecoupled"
    names = [ax.get_xlabel().split()[0] for ax in axes[1]]
    assert names == ["data", "representation", "data", "generation"]


def test_figure1_long_names_do_not_run_into_each_other(portraits):
    long = [dataclasses.replace(portraits[n], label="name " * 30) for n in range(4)]
    figure = moons.figure1(long)
    figure.draw_without_rendering()
    axes = axes_of(figure, 4, 4)
    names = [ax.yaxis.label.get_window_extent() for ax in axes[:, 0]]
    assert all(above.y0 > below.y1 for above, below in pairwise(names))
    titles = [ax.title.get_window_extent() for ax in axes[0]]
    assert all(left.x1 < right.x0 for left, right in pairwise(titles))
    assert titles[-1].x1 <= figure.bbox.width


def test_density_map_is_clipped_below_its_peak_and_keeps_rows_as_ordinates(portraits):
    density = portraits[0].arrays["log_q"].copy()
    density[0, 0] = -np.inf
    density[1, 1] = np.nan
    shown = style.below_peak(density)
    assert shown.max() == 0
    assert shown.min() == shown[0, 0] == shown[1, 1] == -style.DEPTH
    image = axes_of(moons.figure1(portraits[:1]), 1, 4)[0, 1].images[0]
    assert image.get_array().shape == (50, 60)
    assert image.origin == "lower"
    left, right, bottom, top = image.get_extent()
    assert right - left == pytest.approx(7.2 * 60 / 59)
    assert top - bottom == pytest.approx(6.4 * 50 / 49)


def test_an_empty_density_is_drawn_empty():
    assert (style.below_peak(np.full((3, 3), -np.inf)) == -style.DEPTH).all()


def test_samples_that_are_not_finite_do_not_stop_the_figure(portraits, tmp_path):
    arrays = {**portraits[0].arrays, "samples": portraits[0].arrays["samples"].copy()}
    arrays["samples"][:3] = np.nan
    broken = dataclasses.replace(portraits[0], arrays=arrays)
    assert style.save(moons.figure1([broken]), tmp_path / "figure.png")


def test_no_portrait_is_a_usage_error():
    with pytest.raises(UsageError, match="no run"):
        moons.figure1([])
    with pytest.raises(UsageError, match="no run"):
        moons.figure3([])


def test_twins_stand_side_by_side_whatever_their_order(portraits):
    normal_h, normal_tc, decoupled_h, decoupled_tc = portraits
    assert moons.twins([decoupled_tc, normal_h, normal_tc, decoupled_h]) == [
        (normal_tc, decoupled_tc),
        (normal_h, decoupled_h),
    ]
    assert moons.twins([decoupled_h]) == [(None, decoupled_h)]
    assert moons.twins([normal_h, normal_h]) == [(normal_h, None), (normal_h, None)]


@pytest.mark.parametrize("count", [1, 3, 4, 12])
def test_figure3_draws_one_to_twelve_portraits(portraits, count, tmp_path):
    many = [
        dataclasses.replace(portraits[index % 4], label=f"family {index // 2}")
        for index in (0, 2, 1, 3, 0, 2, 1, 3, 0, 2, 1, 3)[:count]
    ]
    many = [
        dataclasses.replace(portrait, label=f"family {index // 2}")
        for index, portrait in enumerate(many)
    ]
    figure = moons.figure3(many)
    panels_each = {"standard_normal": 3, "decoupled": 4}
    assert len(figure.axes) == sum(panels_each[portrait.prior] for portrait in many)
    assert figure.get_figwidth() <= style.DOUBLE_COLUMN + 1e-9
    (path,) = style.save(figure, tmp_path / "figure3.png")
    assert path.stat().st_size > 10_000


def test_figure3_names_its_panels_and_blocks(portraits):
    figure = moons.figure3([portraits[0], portraits[2]])
    names = [ax.get_xlabel().split()[0] for ax in figure.axes]
    assert names == ["(a)", "(b)", "(c)", "(a)", "(b)", "(c)", "(c)"]
    titles = [block.get_suptitle() for block in figure.subfigs]
    assert titles == ["beta_h, standard normal", "beta_h, decoupled"]


def test_figure3_twins_share_the_axes_of_z_and_of_the_data(portraits):
    figure = moons.figure3([portraits[0], portraits[2]])
    left, right = figure.axes[:3], figure.axes[3:]
    for one, other in ((left[1], right[1]), (left[0], right[0]), (left[2], right[3])):
        assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())


def test_figure3_marks_the_high_posterior_samples_over_their_halos(portraits):
    arrays = portraits[2].arrays
    axes = moons.figure3(portraits[2:3]).axes
    for ax, space in zip(axes[1:], ("z", "z0", "x"), strict=True):
        np.testing.assert_array_equal(marked(ax, style.HIGH), arrays[f"high_{space}"])
        halos, marks = (
            [c for c in ax.collections if len(c.get_offsets()) == 5 and c.get_zorder() == zorder]
            for zorder in (3.5, 4)
        )
        assert len(halos) == len(marks) == 1, "a halo drawn after a mark would cut it"
        assert halos[0].get_sizes()[0] > marks[0].get_sizes()[0]


def test_figure3_pdf(portraits, tmp_path):
    (path,) = style.save(moons.figure3(portraits[:1]), tmp_path / "figure3.pdf")
    assert path.read_bytes().startswith(b"%PDF-")
