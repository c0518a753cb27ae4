"""The figures of a diagnosis."""

import numpy as np
import pytest

from dpvae_cli.plotting import diagnosis, samples, style


@pytest.fixture
def record():
    random = np.random.default_rng(0)
    grid = np.linspace(-3, 3, 30)
    return {
        "prior_log_q": np.concatenate([random.normal(-3, 1, 300), [-600.0] * 100]),
        "codes_log_q": random.normal(-2, 0.5, 400),
        "prior_log_p": random.normal(-2, 0.5, 400),
        "codes_log_p": random.normal(-2, 0.5, 400),
        "tail_log_q": np.array(-3.2),
        "tail_log_p": np.array(-3.4),
        "prior_z": random.normal(size=(50, 2)),
        "codes_z": random.normal(size=(50, 2)),
        "grid_x": grid,
        "grid_y": grid,
        "log_q": -np.add.outer(grid**2, grid**2),
        "log_p": -np.add.outer(grid**2, grid**2),
    }


def test_every_sample_is_in_its_histogram(record, tmp_path):
    figure = diagnosis.densities(record, "decoupled")
    for ax in figure.axes:
        heights = [patch.get_data().values.sum() for patch in ax.patches]
        np.testing.assert_allclose(heights, 1.0)
    left = figure.axes[0]
    assert left.get_xlim()[0] > -60, "what is far out does not squeeze the rest"
    first_bin = left.patches[2].get_data().values[0]
    assert first_bin >= 0.25, "but stands in the first bin"
    assert style.save(figure, tmp_path / "densities.png")[0].stat().st_size > 5_000


def test_the_plane_marks_what_lies_in_the_tails(record, tmp_path):
    record["prior_log_q"][:7] = -50
    record["prior_log_q"][7:50] = -1
    left, _ = diagnosis.latent_plane(record, "spline").axes
    counts = [len(points.get_offsets()) for points in left.collections]
    assert counts == [43, 7]
    figure = diagnosis.latent_plane(record, "an unknown prior")
    assert style.save(figure, tmp_path / "plane.png")[0].stat().st_size > 5_000


def test_one_value_alone_is_drawn(record):
    same = record | dict.fromkeys(["codes_log_q", "prior_log_q"], np.full(10, -1.0))
    diagnosis.densities(same | {"tail_log_q": np.array(-1.0)}, "decoupled").draw_without_rendering()


def test_grids_of_images_stand_side_by_side(tmp_path):
    images = np.random.default_rng(0).random((36, 1, 6, 5))
    two = {"samples": images, "lowest": images[::-1], "pool": np.array(180)}
    figure = diagnosis.grids(two)
    random, lowest = (ax.get_title() for ax in figure.axes)
    assert random == diagnosis.GRIDS["samples"]
    assert lowest.endswith("36 of 180 samples")
    three = diagnosis.grids(two | {"repaired": images})
    assert len(three.axes) == 3
    drawn = three.axes[1].images[0].get_array()
    np.testing.assert_array_equal(drawn, samples.grid(images[::-1]))
    assert style.save(three, tmp_path / "grids.png")[0].stat().st_size > 5_000
