"""The picture of a set of decoded samples, whatever their shape."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpvae_cli.foundation.example_shape import is_image
from dpvae_cli.plotting import panels, samples, style, tables


def save(
    path: Path,
    decoded: np.ndarray,
    *,
    log_density: np.ndarray,
    title: str,
    reference: np.ndarray | None = None,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write samples as an image grid, over data as points or tables, or as a heat map.

    Args:
        path: ends in .png or .pdf.
        decoded: `(n, *example)`.
        log_density: of each sample in the generation space, nats; colours points in the plane.
        title: whose samples these are, and of which kind.
        reference: data `(m, *example)` to show behind points and tables.
        columns: names of a table's columns.
    """
    if is_image(decoded.shape[1:]):
        return save_images(path, decoded, title=title)
    if decoded.shape[1:] == (2,):
        figure = samples.scatter(decoded, log_density, reference=reference, columns=columns)
    elif decoded.ndim == 2:
        figure = tables.table_figure(decoded, reference=reference, columns=columns)
    else:
        figure = samples.rows(decoded)
    style.add_title(figure, title)
    return style.save(figure, path)[0]


def save_images(path: Path, images: np.ndarray, *, title: str, columns: int | None = None) -> Path:
    """Write an image grid with a title: enlarged as .png, on a page as .pdf."""
    if path.suffix.lower() == ".png":
        return samples.save_grid(images, path, columns=columns, title=title)
    grid, wide = samples.grid(images, columns), style.SINGLE_COLUMN
    with style.house_style():
        figure = style.new_figure(wide, wide * grid.shape[0] / grid.shape[1] + 0.2)
        axes = figure.subplots()
        axes.imshow(grid, interpolation="none")
        axes.spines[:].set_visible(False)
        panels.hide_ticks(axes)
        style.add_title(figure, title)
    return style.save(figure, path)[0]
