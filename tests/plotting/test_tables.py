"""Samples of tables over the data."""

from itertools import pairwise

import numpy as np
import pytest

from dpvae_cli.plotting import style, tables


def draw(count, *, reference=True, columns=None):
    random = np.random.default_rng(0)
    data = random.normal(size=(300, count))
    samples = random.normal(size=(100, count))
    figure = tables.table_figure(samples, reference=data if reference else None, columns=columns)
    return figure, samples, data


@pytest.mark.parametrize("count", [1, 6, 20, 35])
def test_histograms_of_samples_over_data(count, tmp_path):
    figure, samples, data = draw(count)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == [f"x{n + 1}" for n in range(min(count, 20))]
    for column, ax in enumerate(shown):
        for patch, values in zip(ax.patches, (data, samples), strict=True):
            heights, edges, _ = patch.get_data()
            inside = np.clip(values[:, column], edges[0], edges[-1])
            np.testing.assert_allclose(heights, np.histogram(inside, edges, density=True)[0])
    texts = " ".join(ax.get_xlabel() for ax in shown)
    assert ("first 20 of 35 columns" in texts) == (count == 35)
    assert style.save(figure, tmp_path / "x.png")[0].stat().st_size > 2_000


def test_few_columns_are_drawn_in_pairs(tmp_path):
    figure, samples, data = draw(3, columns=["a", "$b", "c"])
    axes = np.array(figure.axes).reshape(3, 3)
    assert [ax.get_visible() for ax in axes.flat] == [1, 0, 0, 1, 1, 0, 1, 1, 1]
    below, above = axes[2, 0].collections
    np.testing.assert_array_equal(below.get_offsets(), data[:, [0, 2]])
    np.testing.assert_array_equal(above.get_offsets(), samples[:, [0, 2]])
    assert axes[1, 0].get_xlim() == axes[2, 0].get_xlim() == axes[0, 0].get_xlim()
    assert [ax.get_xlabel() for ax in axes[2]] == ["a", r"\$b", "c"]
    assert style.save(figure, tmp_path / "x.png")[0].stat().st_size > 5_000


def test_small_and_large_numbers_have_short_ticks():
    samples = np.random.default_rng(0).normal(size=(200, 4)) * [1e-4, 1, 1e3, 1e8]
    figure = tables.table_figure(samples)
    figure.draw_without_rendering()
    for ax in figure.axes[-4:]:
        low, high = ax.get_xlim()
        ticks = [tick for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert len(boxes) > 1
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_without_data_samples_stand_alone():
    figure, _, _ = draw(6, reference=False)
    assert {len(ax.patches) for ax in figure.axes if ax.get_visible()} == {1}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["samples"]


def test_bins_hold_constants_and_what_is_not_finite():
    edges = tables.bins(np.full(50, 3.0), np.full(9, 3.0))
    assert (edges[0], edges[-1]) == (2.5, 3.5)
    assert np.isfinite(tables.bins(np.array([np.nan, 1.0, 2.0]), np.array([np.nan]))).all()
