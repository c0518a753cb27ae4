"""Traversal figures."""

import numpy as np
import pytest

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import samples, style, traversal
from tests.plotting.conftest import make_traversal

KINDS = ["digits", "faces", "moons", "vectors"]


def without(record, *prefixes):
    return {key: value for key, value in record.items() if not key.startswith(prefixes)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", ["z0", "z"])
def test_every_kind_of_example_is_drawn(kind, space, tmp_path):
    figure = traversal.figure(make_traversal(kind, space), "a run " * 30)
    assert figure.get_figwidth() <= style.DOUBLE_COLUMN + 1e-9
    (path,) = style.save(figure, tmp_path / "traversal.png")
    assert path.stat().st_size > 5_000
    titles = " ".join(ax.get_title() + ax.get_title(loc="left") for ax in figure.axes)
    assert ("in $z_0$" in titles) == (space == "z0")
    assert "\N{MINUS SIGN}4.0 nats" in titles, "the lowest log q(z) is written"


@pytest.mark.parametrize("kind", KINDS)
def test_line_or_sweeps_alone_are_drawn(kind, tmp_path):
    record = make_traversal(kind)
    for part in (without(record, "sweep"), without(record, "line", "grid", "log_q")):
        figure = traversal.figure(part, "a run")
        assert style.save(figure, tmp_path / "traversal.pdf")[0].stat().st_size > 2_000


def test_strips_show_the_decoded_images_in_order():
    record = make_traversal("faces")
    line, profile, *sweeps = traversal.figure(record, "a run").axes
    np.testing.assert_array_equal(
        line.images[0].get_array(), samples.grid(record["line_decoded"], 11)
    )
    np.testing.assert_allclose(profile.get_lines()[0].get_ydata(), record["line_log_q"])
    assert [ax.get_ylabel() for ax in sweeps[:2]] == ["z[4], sd 1.10", "z[3], sd 0.93"]
    for ax, images in zip(sweeps, record["sweep_decoded"], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), samples.grid(images, 11))
    labels = [tick.get_text() for tick in sweeps[-1].get_xticklabels()]
    assert (labels[0], labels[5], labels[-1]) == ("\N{MINUS SIGN}5", "0", "+5")


def test_strips_line_up():
    figure = traversal.figure(make_traversal("digits"), "a run")
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
    np.testing.assert_array_equal(shown[:, :28], samples.grid(record["line_decoded"][:1]))
    np.testing.assert_array_equal(shown[:, -28:], samples.grid(record["line_decoded"][-1:]))
    assert len(profile.get_lines()[0].get_ydata()) == 50


@pytest.mark.parametrize(("kind", "place"), [("digits", -1), ("moons", 0)])
def test_two_latent_dimensions_show_the_path_between_two_stars(kind, place):
    record = make_traversal(kind)
    ax = traversal.figure(record, "a run").axes[place]
    np.testing.assert_array_equal(ax.get_lines()[0].get_xydata(), record["line_z"])
    stars = [collection.get_offsets()[0] for collection in ax.collections]
    np.testing.assert_array_equal(stars, record["line_z"][[0, -1]])
    assert len(ax.images) == 1


def test_points_are_drawn_in_data_space():
    record = make_traversal("moons")
    _, path, sweeps = traversal.figure(record, "a run").axes
    np.testing.assert_array_equal(path.get_lines()[0].get_xydata(), record["line_decoded"])
    labels = [text.get_text() for text in sweeps.get_legend().get_texts()]
    assert labels == ["z[1], sd 1.10", "z[0], sd 0.40"]


def test_other_shapes_share_one_scale():
    figure = traversal.figure(make_traversal("vectors"), "a run")
    scales = {image.get_clim() for ax in figure.axes[:-1] for image in ax.images}
    assert len(figure.axes) == 4  # the line, two sweeps and the colour bar
    assert len(scales) == 1


def test_an_empty_record_is_a_usage_error():
    with pytest.raises(UsageError, match="neither"):
        traversal.figure({}, "a run")
