"""The picture of a set of decoded samples, whatever their shape."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dpvae_cli.plotting import panels, samples, style

CHANNELS = (1, 3)


def are_images(examples: np.ndarray) -> bool:
    """Tell whether examples (n, ...) are grey or colour images (n, c, h, w)."""
    return examples.ndim == 4 and examples.shape[1] in CHANNELS


def save(
    path: Path, decoded: np.ndarray, *, log_density: np.ndarray, reference: np.ndarray | None = None
) -> Path:
    """Write samples as an image grid, a scatter of points in the plane, or a heat map.

    Args:
        path: ends in .png or .pdf.
        decoded: `(n, *example)`.
        log_density: of each sample in the generation space, nats; colours points in the plane.
        reference: data points `(m, 2)` to show behind samples in the plane.
    """
    if are_images(decoded):
        return save_images(path, decoded)
    if decoded.shape[1:] == (2,):
        figure = samples.scatter(decoded, log_density, reference=reference)
    else:
        figure = samples.rows(decoded)
    return style.save(figure, path)[0]


def save_images(path: Path, images: np.ndarray, *, columns: int | None = None) -> Path:
    """Write an image grid: pixel for pixel as .png, on a page as .pdf."""
    if path.suffix.lower() == ".png":
        return samples.save_grid(images, path, columns=columns)
    return style.save(_page(samples.grid(images, columns)), path)[0]


@style.house_style()
def _page(grid: np.ndarray) -> Figure:
    figure = style.new_figure(
        style.SINGLE_COLUMN, style.SINGLE_COLUMN * grid.shape[0] / grid.shape[1]
    )
    axes = figure.subplots()
    axes.imshow(grid)
    panels.bare(axes)
    return figure
