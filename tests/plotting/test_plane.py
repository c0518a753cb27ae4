"""The decoded plane."""

import numpy as np
import pytest

from dpvae_cli.plotting import plane, samples, style
from tests.plotting.conftest import make_plane


@pytest.mark.parametrize("kind", ["digits", "moons", "vectors"])
def test_every_kind_of_example_is_drawn(kind, tmp_path):
    figure = plane.figure(make_plane(kind, "z0", "z"), "a run")
    assert style.save(figure, tmp_path / "plane.png")[0].stat().st_size > 5_000
    titles = " ".join(ax.get_title() for ax in figure.axes)
    assert "quantiles" in titles
    assert "box" in titles
    assert titles.count("lowest \N{MINUS SIGN}7.0 nats") == 2


def test_the_largest_ordinate_is_on_top():
    record = make_plane("digits")
    ax = plane.figure(record, "a run").axes[0]
    shown, decoded = ax.images[0].get_array(), record["plane_decoded"][0]
    np.testing.assert_array_equal(shown[:28, :28], samples.grid(decoded[-1, :1]))
    np.testing.assert_array_equal(shown[-28:, -28:], samples.grid(decoded[0, -1:]))
    labels = dict(zip(ax.get_yticks(), (t.get_text() for t in ax.get_yticklabels()), strict=True))
    assert labels[min(labels)] == "2", "image rows count from the top"
    assert labels[max(labels)] == "\N{MINUS SIGN}2"


def test_the_net_lies_on_the_map():
    record = make_plane("moons")
    decoded, latent = plane.figure(record, "a run").axes
    for ax, curves in ((latent, record["net_z"][0]), (decoded, record["net_decoded"][0])):
        drawn = np.stack(ax.collections[0].get_segments())
        np.testing.assert_allclose(drawn, curves, atol=1e-6)
