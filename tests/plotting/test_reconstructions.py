import numpy as np
import pytest
from PIL import Image

from dpvae_cli.plotting import samples
from tests.plotting.conftest import blob_images


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (2,), (5,), (2, 3)])
def test_every_shape_has_a_picture(shape, suffix, tmp_path):
    x, decoded = np.random.default_rng(0).random((2, 3, *shape), dtype=np.float32)
    path = samples.save_reconstructions(tmp_path / f"x{suffix}", x, decoded=decoded, title="a run")
    assert path.read_bytes()[:4] == (b"%PDF" if suffix == ".pdf" else b"\x89PNG")


def test_images_stand_above_their_reconstructions(tmp_path):
    x, decoded = blob_images(10), blob_images(10, seed=1)
    path = samples.save_reconstructions(tmp_path / "x.png", x, decoded=decoded, title="a run")
    read = np.asarray(Image.open(path))
    white = np.ones((6, *x.shape[1:]))
    rows = [
        x[:8],
        decoded[:8],
        np.concatenate([x[8:], white]),
        np.concatenate([decoded[8:], white]),
    ]
    expected = samples.enlarge(samples.grid(np.concatenate(rows), 8))
    np.testing.assert_array_equal(read[-len(expected) :], expected)


def test_points_are_tied_to_their_reconstructions():
    x, decoded = np.random.default_rng(0).random((2, 7, 2))
    lines, *points = samples.pairs(x, decoded).axes[0].collections
    np.testing.assert_array_equal(lines.get_segments(), np.stack([x, decoded], axis=1))
    for cloud, expected in zip(points, (x, decoded), strict=True):
        np.testing.assert_array_equal(cloud.get_offsets(), expected)


def test_tables_share_their_colours():
    x, decoded = np.zeros((3, 5)), np.ones((3, 5))
    images = [ax.images[0] for ax in samples.heat_maps(x, decoded).axes[:2]]
    assert [image.get_clim() for image in images] == [(0, 1), (0, 1)]
    np.testing.assert_array_equal(images[1].get_array(), decoded)


def test_columns_have_the_names_of_the_data():
    x, decoded = np.random.default_rng(0).random((2, 6, 3))
    names = ["height", "weight", "age"]
    *_, below, _ = samples.heat_maps(x, decoded, names).axes
    assert [label.get_text() for label in below.get_xticklabels()] == names
    [ax] = samples.pairs(x[:, :2], decoded[:, :2], names[:2]).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("height", "weight")
