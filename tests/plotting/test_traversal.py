"""Traversal figures."""

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import samples, style, traversal
from tests.plotting.conftest import make_traversal

KINDS = ["digits", "faces", "moons", "vectors"]


def only(record, kept):
    """Return the record with the walks at these positions."""
    return {
        key: value[kept] if key.startswith(("walk", "path", "lowest")) else value
        for key, value in record.items()
    }


def words(figure):
    figure.draw_without_rendering()
    titles = [ax.get_title(loc=loc) for ax in figure.axes for loc in ("center", "left")]
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    return " ".join(titles + [text.get_text() for each in legends for text in each.get_texts()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spaces", [("z0",), ("z",), ("z0", "z")])
def test_every_kind_of_example_is_drawn(kind, spaces, tmp_path):
    figure = traversal.figure(make_traversal(kind, *spaces), "a run " * 30)
    assert figure.get_figwidth() <= style.DOUBLE_COLUMN + 1e-9
    (path,) = style.save(figure, tmp_path / "traversal.png")
    assert path.stat().st_size > 5_000
    for space, symbol in traversal.SYMBOLS.items():
        assert (f"straight line in {symbol}, lowest" in words(figure)) == (space in spaces)
    assert "\N{MINUS SIGN}3.9 nats" in words(figure), "the lowest log q(z) is written"


@pytest.mark.parametrize("kind", KINDS)
def test_lines_or_sweeps_alone_are_drawn(kind, tmp_path):
    record = make_traversal(kind, "z0", "z")
    for kept in (traversal.line_indices(record), traversal.sweep_indices(record)):
        figure = traversal.figure(only(record, kept), "a run")
        assert style.save(figure, tmp_path / "traversal.pdf")[0].stat().st_size > 2_000


def test_strips_show_the_decoded_images_in_order():
    record = make_traversal("faces")
    line, profile, *sweeps = traversal.figure(record, "a run").axes
    np.testing.assert_array_equal(
        line.images[0].get_array(), samples.grid(record["walk_decoded"][0], 11)
    )
    assert [text.get_text() for text in line.texts] == ["start", "end"]
    np.testing.assert_allclose(profile.get_lines()[0].get_ydata(), record["path_log_q"][0])
    np.testing.assert_allclose(profile.get_lines()[1].get_ydata(), record["walk_log_q"][0])
    assert [ax.get_ylabel() for ax in sweeps[:2]] == ["$z_0$[4], sd 1.10", "$z_0$[3], sd 0.93"]
    for ax, images in zip(sweeps, record["walk_decoded"][1:], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), samples.grid(images, 11))
    labels = [tick.get_text() for tick in sweeps[-1].get_xticklabels()]
    assert (labels[0], labels[5], labels[-1]) == ("\N{MINUS SIGN}5", "0", "+5")


def test_profiles_of_two_lines_share_their_height():
    record = make_traversal("digits", "z0", "z")
    record["path_log_q"][1] *= 3
    _, one, _, other, *_ = traversal.figure(record, "a run").axes
    assert one.get_ylim() == other.get_ylim()
    assert one.get_ylim()[0] < record["path_log_q"][1].min()


def test_a_flat_profile_is_flat():
    record = make_traversal("digits")
    record["path_log_q"] = record["path_log_q"] * 1e-6
    low, high = traversal.figure(record, "a run").axes[1].get_ylim()
    assert high - low >= 0.1


def test_strips_line_up():
    figure = traversal.figure(make_traversal("digits", "z0", "z"), "a run")
    figure.draw_without_rendering()
    edges = {
        (round(ax.get_window_extent().x0), round(ax.get_window_extent().x1))
        for ax in figure.axes[:-1]
    }
    assert len(edges) == 1


def test_a_long_line_is_thinned_with_its_ends_kept():
    record = make_traversal("faces", steps=50)
    line, profile = traversal.figure(record, "a run").axes[:2]
    shown = line.images[0].get_array()
    assert shown.shape[1] == 13 * 30 - 2
    images = record["walk_decoded"][0]
    np.testing.assert_array_equal(shown[:, :28], samples.grid(images[:1]))
    np.testing.assert_array_equal(shown[:, -28:], samples.grid(images[-1:]))
    assert len(profile.get_lines()[0].get_ydata()) == 99


@pytest.mark.parametrize(("steps", "tiles"), [(2, 2), (11, 11), (13, 13), (41, 11), (50, 13)])
def test_tiles_are_evenly_spaced_where_they_can_be(steps, tiles):
    shown = traversal.tile_indices(steps)
    assert (len(shown), shown[0], shown[-1]) == (tiles, 0, steps - 1)
    assert steps == 50 or len(set(np.diff(shown))) == 1


@pytest.mark.parametrize(("kind", "place"), [("digits", -1), ("moons", 0)])
def test_two_latent_dimensions_show_both_paths_between_two_stars(kind, place):
    record = make_traversal(kind, "z0", "z")
    ax = traversal.figure(record, "a run").axes[place]
    halos, lines = ax.get_lines()[:4:2], ax.get_lines()[1:4:2]
    for halo, line, path, colour in zip(
        halos, lines, record["path_z"][:2], traversal.COLOURS.values(), strict=True
    ):
        np.testing.assert_array_equal(line.get_xydata(), path)
        np.testing.assert_array_equal(halo.get_xydata(), path)
        assert (line.get_color(), halo.get_color()) == (colour, "white")
        assert halo.get_zorder() < min(line.get_zorder() for line in lines), "no line is cut"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z$[0]", "$z$[1]")
    assert [text.get_text() for text in ax.texts] == ["start", "end"]
    stars = [collection.get_offsets()[0] for collection in ax.collections]
    np.testing.assert_array_equal(stars, record["walk_z"][:2][:, [0, -1]].reshape(-1, 2))
    assert len(ax.images) == 1


def test_sweeps_alone_are_on_the_map_without_widening_it():
    record = make_traversal("digits")
    alone = only(record, traversal.sweep_indices(record))
    alone["path_z"] *= 100
    ax = traversal.figure(alone, "a run").axes[-1]
    assert len(ax.get_lines()) == 4, "two sweeps with their halos"
    assert max(ax.get_xlim()) < 10


def test_points_are_drawn_in_data_space():
    record = make_traversal("moons", "z")
    _, path, sweeps = traversal.figure(record, "a run").axes
    np.testing.assert_array_equal(path.get_lines()[0].get_xydata(), record["walk_decoded"][0])
    assert {(ax.get_xlabel(), ax.get_ylabel()) for ax in (path, sweeps)} == {("$x_1$", "$x_2$")}
    labels = [text.get_text() for text in sweeps.get_legend().get_texts()]
    assert labels == ["$z$[1], sd 1.10", "$z$[0], sd 0.40"]


def test_other_shapes_share_one_scale():
    figure = traversal.figure(make_traversal("vectors"), "a run")
    scales = {image.get_clim() for ax in figure.axes[:-1] for image in ax.images}
    assert len(figure.axes) == 4  # the line, two sweeps and the colour bar
    assert len(scales) == 1


def test_an_empty_record_is_a_usage_error():
    with pytest.raises(UsageError, match="neither"):
        traversal.figure({}, "a run")


@pytest.mark.parametrize("kind", ["digits", "moons", "vectors"])
def test_pictures_of_twins_share_axes_and_colours(kind):
    """The map of q(z) alone has the axes of its own codes."""
    one, other = make_traversal(kind), make_traversal(kind)
    if kind != "digits":
        other["walk_decoded"] = 3 * other["walk_decoded"] - 1
    for key in ("path_log_q", "walk_log_q"):
        other[key] = 3 * other[key]
    figures = traversal.figure(one, "a", twins=[other]), traversal.figure(other, "b", twins=[one])
    looks = []
    for figure in figures:
        of_map = [ax for ax in figure.axes if ax.get_title().startswith("$\\log")]
        axes = [ax for ax in figure.axes if ax not in of_map]
        looks.append([(ax.get_xlim(), ax.get_ylim()) for ax in axes])
        looks[-1] += [image.get_clim() for ax in axes for image in ax.images]
    np.testing.assert_equal(*looks)
    if kind == "digits":
        apart = traversal.figure(one, "a")
        assert apart.axes[1].get_ylim() != figures[0].axes[1].get_ylim()
